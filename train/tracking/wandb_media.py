"""Converts media of a run to the classes of W&B."""

import io
from typing import Any

from train.tracking.media import Audio, Histogram, Item, Media, Picture


def to_point(media: Media) -> dict[str, Any]:
    """Converts all items of one step to one point of a W&B run."""
    return {"global_step": media.step} | {name: to_wandb(item) for name, item in media.items().items()}


def to_wandb(item: Item) -> Any:
    """Converts one item to its W&B class."""
    # Imported here: importing W&B takes a second, and not every run uses it.
    import wandb
    from PIL import Image

    if isinstance(item, Audio):
        return wandb.Audio(item.samples.T, item.rate)
    if isinstance(item, Picture):
        return wandb.Image(Image.open(io.BytesIO(item.png)))
    if isinstance(item, Histogram):
        return wandb.Histogram(np_histogram=(item.counts, item.edges))
    # Not a wandb.Table: it is an artifact, and offline runs store the files of artifacts outside the run folder.
    return wandb.Html(item.html, inject=False, data_is_not_path=True)
