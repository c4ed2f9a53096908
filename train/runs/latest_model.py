"""The model that a run has made so far."""

from pathlib import Path

import torch

import audiovae
from audiovae import Autoencoder, ModelError
from shards.manifest import Manifest
from train.errors import TrainError
from train.runs import checkpoint
from train.runs.run_folder import RunDir


def is_training_data(run: RunDir, manifest: Manifest) -> bool:
    """Whether these shards hold just what the run was trained on."""
    return "train" in manifest.splits and manifest.split_fingerprint("train") == run.data_fingerprint


def weights_of(run: RunDir) -> Path:
    """The finished model, or the newest sound checkpoint of a run in progress, which is left as it is.

    Raises:
        TrainError: when there is none yet.
    """
    done = run.finished_at is not None
    source = run.path / "model" if done else checkpoint.newest_intact(run.path / "checkpoints", set_aside=False)
    if source is None:
        raise TrainError(f"{run.path}: nothing saved yet; let it train until its first checkpoint")
    return source


def load_weights(source: Path, device: str) -> Autoencoder:
    """The model that was saved there.

    Args:
        source: As from `weights_of`.
        device: cpu, cuda, cuda:N, or auto: a GPU where there is one.

    Raises:
        TrainError: when it cannot be loaded, or the device is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        found = "" if torch.cuda.is_available() else "PyTorch finds no GPU here; "
        raise TrainError(f"--device {device}: {found}choose cpu, or cuda where there is a GPU")
    try:
        return audiovae.load(source, device)
    except ModelError as error:
        raise TrainError(str(error)) from None
