"""The copy of the autoencoder that a prior's data set, run and model folder carry, so that each is of use alone."""

from contextlib import suppress
from pathlib import Path

import audiovae
from audiovae import ModelError
from audiovae.priors.latents import LATENTS
from audiovae.saved.prior_folder import AUTOENCODER, copy_autoencoder
from shards import Split
from shards.mixing.places import parse_places
from shards.reading.manifests import is_url
from train.errors import TrainError
from train.runs.checkpoint import write_folder


def keep_autoencoder(run_folder: Path, data: str, split: Split) -> None:
    """Copies the autoencoder from a data set of latents into the run's folder, once; of other data, nothing.

    Of several data sets of the same model, which `data` names, the first with a copy gives it.

    Raises:
        TrainError: when it is another model than the one that made the latents, or cannot be copied.
    """
    if LATENTS not in split.manifest.settings:
        return
    target, wanted = run_folder / AUTOENCODER, split.manifest.settings[LATENTS]["model"]
    with suppress(ModelError):  # missing, or damaged: it is copied anew
        if audiovae.fingerprint(audiovae.load(target)) == wanted:
            return
    folders = [Path(place.path) / AUTOENCODER for place in parse_places(data) if not is_url(place.path)]
    source = next((folder for folder in folders if folder.is_dir()), None)
    if source is None:
        print("note: these latents have no copy of their autoencoder; `audiovae generate` needs --autoencoder")
        return
    try:
        found = audiovae.fingerprint(audiovae.load(source))
    except ModelError as error:
        raise TrainError(f"{error}; remove it, and name the autoencoder when you generate") from None
    if found != wanted:
        raise TrainError(f"{source}: is not the model that made these latents; encode the recordings again")
    write_folder(target, lambda folder: copy_autoencoder(source, folder))


def add_autoencoder(run_folder: Path, model_folder: Path) -> None:
    """Copies the autoencoder of a run, if it has one, into the model folder that is being written; raises OSError."""
    if (run_folder / AUTOENCODER).is_dir():
        copy_autoencoder(run_folder / AUTOENCODER, model_folder / AUTOENCODER)
