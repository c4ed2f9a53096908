"""Whether the run folder's disk returns what is saved there, and whether the checkpoints will fit."""

import shutil
import time
from collections.abc import Mapping
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

# Bytes of host memory for each parameter in a snapshot: weights, averages and two moments in float32.
SNAPSHOT_BYTES = 16


def check_memory(parameters: int, free: int) -> bool:
    """Whether rank 0's host memory also has room to read a checkpoint back and compare it.

    Args:
        parameters: Parameters of the whole model.
        free: Bytes of host memory that are free.

    Raises:
        TrainError: when the memory cannot even hold what a checkpoint is written from.
    """
    needed = SNAPSHOT_BYTES * parameters
    if free < needed:
        raise TrainError(
            f"preflight: process 0 needs {needed / 1e9:,.1f} GB of host memory to save {parameters / 1e9:,.2f} billion "
            f"parameters ({SNAPSHOT_BYTES} bytes each), and {free / 1e9:,.1f} GB are free on its node; "
            "ask for more, such as with sbatch --mem, or lower --data.memory_gb"
        )
    return free >= 2 * needed


def round_trip(folder: Path, learner: Learner, snapshot: Snapshot, compare: bool = True) -> tuple[int, float]:
    """Saves a checkpoint to `preflight/` in the run folder, verifies its checksums and deletes it.

    Args:
        folder: The run folder.
        learner: The state that is saved, for its model.
        snapshot: What is saved.
        compare: Also read all tensors back and compare them, which takes as much memory as the snapshot.

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
        if compare and not _same(snapshot, checkpoint.load(saved)):
            raise TrainError(f"preflight: {folder}: a checkpoint saved there comes back with other values")
        size = sum(file.stat().st_size for file in saved.iterdir())
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return size, seconds


def _same(snapshot: Snapshot, back: Snapshot) -> bool:
    """Whether a checkpoint that was read holds what was saved."""
    pairs: list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]] = [
        (snapshot.weights, back.weights),
        (snapshot.averaged, back.averages),
        (snapshot.moments, back.moments),
    ]
    if (snapshot.discriminator is None) != (back.discriminator is None):
        return False
    if snapshot.discriminator and back.discriminator:
        one, other = snapshot.discriminator, back.discriminator
        pairs += [(one.weights, other.weights), (one.moments, other.moments)]
    return all(equal(*pair) for pair in pairs) and snapshot.state.items() <= back.state.items()


def bytes_of(snapshot: Snapshot) -> int:
    """Bytes of all tensors: about the size of a checkpoint."""
    parts = [snapshot.weights, snapshot.averaged, snapshot.moments]
    if snapshot.discriminator:
        parts += [snapshot.discriminator.weights, snapshot.discriminator.moments]
    return sum(value.numel() * value.element_size() for part in parts for value in part.values())


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
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
