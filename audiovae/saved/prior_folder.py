"""Loads a prior together with the autoencoder whose latents it models."""

import shutil
from pathlib import Path

from audiovae.errors import ModelError
from audiovae.models.autoencoder import Autoencoder
from audiovae.priors.prior import Prior
from audiovae.saved.model_folder import CONFIG_FILE, WEIGHTS_FILE, fingerprint, load, load_any

# In a data set of latents, a run of a prior and its model folder: a copy of the autoencoder.
AUTOENCODER = "autoencoder"


def load_prior(
    path: str | Path, autoencoder: str | Path | None = None, device: str = "cpu"
) -> tuple[Prior, Autoencoder]:
    """Loads a prior and its autoencoder for use (evaluation mode).

    Args:
        path: A run of a prior, its model folder or one of its checkpoints.
        autoencoder: A run or model folder of the autoencoder; None for the copy beside the prior.
        device: Device for the weights.

    Raises:
        ModelError: if one of them is missing or damaged, or they do not belong together.
    """
    prior = load_any(path, device)
    if not isinstance(prior, Prior):
        raise ModelError(f"{path}: holds a {prior.family} and no prior; pass the run of a prior")
    place = Path(autoencoder) if autoencoder else beside(Path(path))
    if place is None:
        raise ModelError(f"{path}: there is no copy of the autoencoder beside it; name one with --autoencoder")
    model = load(place, device)
    if (own := fingerprint(model)) != prior.latents.model:
        raise ModelError(
            f"{place}: the prior models latents of another model, a {prior.latents.family} of fingerprint "
            f"{prior.latents.model} (this is a {model.family} of {own}); name that one with --autoencoder"
        )
    return prior, model


def beside(path: Path) -> Path | None:
    """The copy of the autoencoder in a run, model folder or checkpoint of a prior; None without one."""
    places = [path, path / "model", path.parent, path.parent.parent]
    return next((place / AUTOENCODER for place in places if (place / AUTOENCODER / CONFIG_FILE).is_file()), None)


def copy_autoencoder(source: Path, target: Path) -> None:
    """Copies what `load` needs of a model folder; raises OSError."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(source / name, target / name)
