"""The newest model of a run, one of its checkpoints, and that of the step at which its adversarial phase began."""

from contextlib import suppress
from pathlib import Path

import torch

import audiovae
from audiovae import Autoencoder, ModelError
from audiovae.card import read_facts
from shards.manifest import Manifest
from train.config import phase_start_of
from train.errors import TrainError
from train.optim.ranking import ranked_by
from train.runs import checkpoint
from train.runs.record import RECORD_FILE
from train.runs.run_folder import RunDir

BEST = "best"


def is_training_data(run: RunDir, manifest: Manifest) -> bool:
    """Whether these shards hold the training split of the run, by its fingerprint."""
    return "train" in manifest.splits and manifest.split_fingerprint("train") == run.data_fingerprint


def weights_of(run: RunDir) -> Path:
    """The folder of the finished model, or of the newest intact checkpoint; changes nothing in the run's folder.

    Raises:
        TrainError: when there is none yet.
    """
    finished = run.finished_at is not None
    source = run.path / "model" if finished else checkpoint.newest_intact(run.path / "checkpoints", set_aside=False)
    if source is None:
        raise TrainError(f"{run.path}: no checkpoint yet; train until the first one is saved")
    return source


def chosen_weights(run: RunDir, name: str | None) -> Path:
    """The folder of a checkpoint, or as in `weights_of`; changes nothing in the run's folder.

    Args:
        run: The run.
        name: A step, the name of a checkpoint's folder, or `best` for the one that `checkpoint.best_by` chooses. None
            for the newest weights.

    Raises:
        TrainError: when there is no such checkpoint, or it is damaged.
    """
    if name is None:
        return weights_of(run)
    folder = run.path / "checkpoints"
    if name == BEST:
        measure = ranked_by(run.config)
        path = checkpoint.best_checkpoint(folder, measure)
        if path is None:
            raise TrainError(f"{folder}: no checkpoint has a held-out value of {measure} (checkpoint.best_by)")
    else:
        found = {str(checkpoint.step_of(path)): path for path in reversed(checkpoint.all_checkpoints(folder))}
        path = found.get(name) or next((path for path in found.values() if path.name == name), None)
        if path is None:
            remedy = f"choose {BEST} or one of the steps {', '.join(found)}" if found else "none has been saved"
            raise TrainError(f"{run.path}: there is no checkpoint {name!r:.80}; {remedy}")
    _check_sound(path)
    return path


def _check_sound(path: Path) -> None:
    """Raises TrainError if a checkpoint is damaged."""
    if problem := checkpoint.damage(path):
        raise TrainError(f"{path}: {problem}; choose another checkpoint")


def checkpoint_flag(name: str) -> list[str]:
    """The words of a command line that choose the weights of this folder again; none for a finished model."""
    return ["--checkpoint", name] if checkpoint.NAME.fullmatch(name) else []


def before_phase(run: RunDir, name: str) -> Path | None:
    """The checkpoint of the step at which the adversarial phase began, if the run has weights of a later step.

    Args:
        run: The run.
        name: The name of the folder of those weights, from `weights_of`.

    Returns:
        The checkpoint, which may be missing or damaged; None without the phase, and for weights from before it.
    """
    start = phase_start_of(run.config)
    if start is None:
        return None
    if checkpoint.NAME.fullmatch(name):
        step = checkpoint.step_of(Path(name))
    else:
        step = run.finished_at or 0
        with suppress(ModelError):  # the card only matters for a training that diverged, whose model is an earlier one
            facts = read_facts(run.path / "model")
            step = facts.steps if facts else step
    return run.path / "checkpoints" / f"step-{start:08d}" if step > start else None


def folder_of_weights(path: Path) -> Path:
    """The model folder or checkpoint that a path names; of a run its newest, as in `weights_of`.

    Raises:
        TrainError: when there is none.
    """
    if (path / RECORD_FILE).is_file() and not (path / "config.json").is_file():
        return weights_of(RunDir.open(path))
    if (path / checkpoint.MANIFEST).is_file():
        _check_sound(path)
    if not (path / "config.json").is_file():
        raise TrainError(f"{path}: holds no model; pass a model folder, a checkpoint or a run")
    return path


def load_weights(source: Path, device: str) -> Autoencoder:
    """Loads the model of a folder.

    Args:
        source: A folder as returned by `weights_of`.
        device: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one.

    Raises:
        TrainError: when the model cannot be loaded, or the device does not exist.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    try:
        return audiovae.load(source, device)
    except ModelError as error:
        raise TrainError(str(error)) from None


def check_device(device: str) -> None:
    """Raises TrainError if there is no such device: cpu, cuda or cuda:N."""
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        found = "" if torch.cuda.is_available() else "PyTorch finds no GPU here; "
        raise TrainError(f"--device {device}: {found}choose cpu, or cuda on a machine with a GPU")
