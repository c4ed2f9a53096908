"""Whether the run folder's disk returns what is saved there, and whether the checkpoints will fit."""

import shutil
import time
from pathlib import Path

import torch
from torch import Tensor

from shards.files import make_folder
from train.config import RunConfig
from train.errors import TrainError
from train.optim.snapshot import Snapshot
from train.runs import checkpoint
from train.runs.checkpoint import Retention
from train.runs.forecast import room_needed
from train.training.learner import Learner


def round_trip(folder: Path, learner: Learner, snapshot: Snapshot) -> tuple[int, float]:
    """Saves a checkpoint to `preflight/` in the run folder, reads it back, compares and deletes it.

    Returns:
        Bytes of the checkpoint, and seconds of the save.

    Raises:
        TrainError: when what comes back is not what was saved.
    """
    aside = folder / "preflight"
    try:
        began = time.monotonic()
        make_folder(aside, folder)
        saved = checkpoint.save(aside, learner.model, snapshot, Retention(newest=1, best=False))
        seconds = time.monotonic() - began
        if problem := checkpoint.damage(saved):
            raise TrainError(f"preflight: {folder}: a checkpoint saved there comes back damaged: {problem}")
        back = checkpoint.load(saved)
        pairs = ((snapshot.weights, back.weights), (snapshot.averaged, back.averages), (snapshot.moments, back.moments))
        if not all(equal(*pair) for pair in pairs) or not snapshot.state.items() <= back.state.items():
            raise TrainError(f"preflight: {folder}: a checkpoint saved there comes back with other values")
        size = sum(file.stat().st_size for file in saved.iterdir())
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return size, seconds


def bytes_of(snapshot: Snapshot) -> int:
    """Bytes of all tensors: about the size of a checkpoint."""
    parts = (snapshot.weights, snapshot.averaged, snapshot.moments)
    return sum(value.numel() * value.element_size() for part in parts for value in part.values())


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether both hold the same tensors, bit for bit."""
    if one.keys() != other.keys():
        return False
    pairs = [(value, other[name]) for name, value in one.items()]
    return all(
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(*(value.contiguous().reshape(-1).view(torch.uint8) for value in (a, b)))
        for a, b in pairs
    )


def check_room(config: RunConfig, folder: Path, size: int, save_s: float) -> str:
    """Checks that the checkpoints to keep fit on the disk; returns a line to print.

    Args:
        config: Which checkpoints are kept.
        folder: The folder of checkpoints.
        size: Bytes of a checkpoint.
        save_s: Seconds that a save takes.

    Raises:
        TrainError: when they do not fit.
    """
    keep = config.checkpoint
    present = len(checkpoint.all_checkpoints(folder))
    needed = room_needed(size, present, keep.keep, keep.keep_best)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainError(
            f"preflight: {folder}: {free / 1e6:,.0f} MB free, but the checkpoints to keep take "
            f"{needed / 1e6:,.0f} MB more; make room, or lower --checkpoint.keep (now {keep.keep})"
        )
    line = f"a checkpoint takes {size / 1e6:,.1f} MB and {save_s:.1f} s; {free / 1e9:,.1f} GB are free"
    if keep.keep_every and config.optim.steps // keep.keep_every * size > free:
        line += f"; warning: those of --checkpoint.keep_every {keep.keep_every} will not all fit"
    return line
