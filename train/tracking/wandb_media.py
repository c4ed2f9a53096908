"""Media of a run in the classes of W&B."""

import io
from typing import Any

from train.tracking.media import Audio, Histogram, Item, Media, Picture


def to_point(media: Media) -> dict[str, Any]:
    """All items of one step as one point of a W&B run."""
    return {"global_step": media.step} | {name: to_wandb(item) for name, item in media.items().items()}


def to_wandb(item: Item) -> Any:
    """One item as W&B takes it."""
    # Imported here: W&B takes a second to import, and a run may do without it.
    import wandb
    from PIL import Image

    if isinstance(item, Audio):
        return wandb.Audio(item.samples, item.rate)
    if isinstance(item, Picture):
        return wandb.Image(Image.open(io.BytesIO(item.png)))
    if isinstance(item, Histogram):
        return wandb.Histogram(np_histogram=(item.counts, item.edges))
    # Not a wandb.Table: that is an artifact, and an offline run keeps its files outside of its own folder.
    return wandb.Html(item.html, inject=False, data_is_not_path=True)
