"""Checkpoints that are whole or not there.

    RUN_DIR/checkpoints/step-00001234/
        manifest.json             sizes and sha256 of the files below
        state.json                step, data cursor, what the run was
        training.safetensors      weights and buffers as trained
        optimizer.pt              AdamW's moments (tensors and numbers only: loaded with weights_only)
        config.json, model.safetensors, encoder.safetensors, ...   averaged weights, for `audiovae.load`

Written as step-00001234.tmp, synced, renamed; older ones go only afterwards. A damaged one is set aside,
never deleted.
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import audiovae
from audiovae import Autoencoder
from shards.files import sync_folder
from train.errors import TrainError

MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{8,})")


@dataclass
class Snapshot:
    """All that a run needs to go on.

    Attributes:
        state: Plain values: step, cursor, counters.
        weights: The model's state dict.
        average: The averaged state dict.
        optimizer: The optimizer's state dict.
    """

    state: dict[str, Any]
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]


def save(folder: Path, model: Autoencoder, snapshot: Snapshot, keep: int) -> Path:
    """Writes a checkpoint for snapshot.state["step"] and prunes older ones; by one process only.

    Raises:
        TrainError: when the disk is full or not writable; what was there before stays.
    """
    final = folder / f"step-{snapshot.state['step']:08d}"
    if final.exists():
        return final
    temporary = final.with_name(final.name + ".tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        _check_space(folder)
        temporary.mkdir(parents=True)
        audiovae.save(model, temporary, snapshot.average)
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in snapshot.weights.items()},
            temporary / "training.safetensors",
        )
        torch.save(snapshot.optimizer, temporary / "optimizer.pt")
        (temporary / "state.json").write_text(json.dumps(snapshot.state, indent=1) + "\n")
        files = {path.name: _describe(path) for path in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n")
        for path in temporary.iterdir():
            _sync(path)
        sync_folder(temporary)
        temporary.rename(final)
        sync_folder(folder)
    except (
        OSError,
        RuntimeError,
    ) as error:  # safetensors and torch.save wrap a full disk in their own errors
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise TrainError(f"{final}: cannot be saved ({reason}); make room and start again to resume") from error
    for old in all_checkpoints(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def all_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, newest first; unverified."""
    found = [path for path in folder.glob("step-*") if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def newest_sound(folder: Path) -> Path | None:
    """The newest checkpoint whose every file is as it was written; damaged ones are set aside with a warning."""
    for path in all_checkpoints(folder):
        problem = damage(path)
        if not problem:
            return path
        aside = path.with_name(f"damaged-{path.name}")
        while aside.exists():
            aside = aside.with_name(aside.name + "+")
        path.rename(aside)
        warnings.warn(f"{path}: {problem}; set aside as {aside.name}, going back to an older one", stacklevel=2)
    return None


def damage(path: Path) -> str:
    """What is wrong with a checkpoint; empty when nothing is."""
    try:
        files = json.loads((path / MANIFEST).read_text())["files"]
        for name, expected in files.items():
            if _describe(path / Path(name).name) != expected:
                return f"{name} is not as it was written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} or a file it names cannot be read ({error})"
    return ""


def load(path: Path) -> Snapshot:
    """Reads a verified checkpoint, all on the CPU: whoever takes it in moves it where it belongs."""
    return Snapshot(
        json.loads((path / "state.json").read_text()),
        load_file(path / "training.safetensors", device="cpu"),
        load_file(path / "model.safetensors", device="cpu"),
        torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True),
    )


def _describe(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_space(folder: Path) -> None:
    """Refuses to start a save that the newest checkpoint says will not fit."""
    folder.mkdir(parents=True, exist_ok=True)
    if existing := all_checkpoints(folder):
        needed = sum(file.stat().st_size for file in existing[0].iterdir())
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(28, f"{free / 1e9:.1f} GB free, a checkpoint takes {needed / 1e9:.1f} GB")
