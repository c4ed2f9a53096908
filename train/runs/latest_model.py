"""The newest model of a run."""

from pathlib import Path

import torch

import audiovae
from audiovae import Autoencoder, ModelError
from shards.manifest import Manifest
from train.errors import TrainError
from train.runs import checkpoint
from train.runs.record import RECORD_FILE
from train.runs.run_folder import RunDir


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


def folder_of_weights(path: Path) -> Path:
    """The model folder or checkpoint that a path names; of a run its newest, as in `weights_of`.

    Raises:
        TrainError: when there is none.
    """
    if (path / RECORD_FILE).is_file() and not (path / "config.json").is_file():
        return weights_of(RunDir.open(path))
    if (path / checkpoint.MANIFEST).is_file() and (problem := checkpoint.damage(path)):
        raise TrainError(f"{path}: {problem}; choose another checkpoint")
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
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        found = "" if torch.cuda.is_available() else "PyTorch finds no GPU here; "
        raise TrainError(f"--device {device}: {found}choose cpu, or cuda on a machine with a GPU")
    try:
        return audiovae.load(source, device)
    except ModelError as error:
        raise TrainError(str(error)) from None
