"""Checkpoints that are whole or not there.

    RUN_DIR/checkpoints/step-00001234/
        manifest.json             sizes and sha256 of the files below
        state.json                step and data cursor
        training.safetensors      weights and buffers as trained
        optimizer.safetensors     AdamW's moments
        config.json, model.safetensors, encoder.safetensors, ...   averaged weights, for `audiovae.load`

Written as step-00001234.RANDOM.tmp, synced, renamed; older ones go only afterwards. A damaged one is set aside,
never deleted.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import audiovae
from audiovae import Autoencoder, ModelError
from shards.files import UnsafePathError, read_file, sha256_of
from shards.files import write_folder as write_whole_folder
from train.errors import TrainError, TransientError
from train.optim.snapshot import Snapshot

MANIFEST = "manifest.json"
FORMAT = 2
NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the newest, the best, and those of round steps.

    Attributes:
        newest: How many of the newest.
        best: Whether the one with the highest `valid_si_sdr` in its state.
        every: Those whose step is a multiple of this; 0 means none.
    """

    newest: int = 3
    best: bool = True
    every: int = 0


def save(folder: Path, model: Autoencoder, snapshot: Snapshot, retention: Retention) -> Path:
    """Writes a checkpoint for snapshot.state["step"] and prunes older ones; by one process only.

    Raises:
        TrainError: when the disk is full or not writable; what was there before stays.
    """
    final = folder / f"step-{snapshot.state['step']:08d}"
    if final.exists():
        return final

    def fill(temporary: Path) -> None:
        _check_space(folder)
        audiovae.save(model, temporary, snapshot.averaged)
        save_file(snapshot.weights, temporary / "training.safetensors")
        save_file(snapshot.moments, temporary / "optimizer.safetensors")
        state = {**snapshot.state, "updates": snapshot.updates}
        (temporary / "state.json").write_text(json.dumps(state, indent=1) + "\n")
        files = {path.name: _describe(path) for path in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1) + "\n")

    remove_unfinished(folder)
    write_folder(final, fill, inside=folder.parent)
    for old in deletable(folder, retention):
        shutil.rmtree(old, ignore_errors=True)
    return final


def deletable(folder: Path, retention: Retention) -> list[Path]:
    """The checkpoints that need not stay."""
    found = all_checkpoints(folder)
    best = best_checkpoint(folder) if retention.best else None
    return [
        path
        for path in found[retention.newest :]
        if path != best and not (retention.every and step_of(path) % retention.every == 0)
    ]


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest held-out SI-SDR; None when none was measured."""
    measured = {}
    for path in all_checkpoints(folder):
        try:
            measured[path] = float(json.loads(read_file(path / "state.json", follow_links=True))["valid_si_sdr"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not measured, or damaged
    return max(measured, key=lambda path: measured[path], default=None)


def step_of(path: Path) -> int:
    """The step of a checkpoint's folder."""
    return int(path.name[5:])


def remove_unfinished(folder: Path) -> None:
    """Removes what a save that was killed left behind."""
    for unfinished in folder.glob("step-*.tmp"):
        shutil.rmtree(unfinished, ignore_errors=True)


def write_folder(final: Path, fill: Callable[[Path], object], inside: Path | None = None) -> None:
    """Makes a folder of a run that is whole or not there, see `shards.files`.

    Raises:
        TrainError: when it cannot be written; an older `final` then stays as it was.
    """
    try:
        write_whole_folder(final, fill, inside)
    except UnsafePathError as error:
        raise TrainError(str(error)) from None
    except (OSError, RuntimeError, SafetensorError, ModelError) as error:  # a full disk comes as any of them
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise TrainError(f"{final}: cannot be saved ({reason}); make room and start again to resume") from error


def all_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, newest first; unverified."""
    found = [path for path in folder.glob("step-*") if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def newest_intact(folder: Path, set_aside: bool = True) -> Path | None:
    """The newest checkpoint whose every file is as it was written; None where nothing was ever saved.

    Damaged ones are set aside with a warning, unless somebody else may be writing there.

    Raises:
        TrainError: when files cannot be read, which may pass, or when no saved checkpoint is sound: beginning
            anew would throw away the run.
    """
    for path in all_checkpoints(folder):
        problem = damage(path)
        if not problem:
            return path
        if set_aside:
            aside = path.with_name(f"damaged-{path.name}")
            while aside.exists():
                aside = aside.with_name(aside.name + "+")
            path.rename(aside)
            print(f"warning: {path}: {problem}; set aside as {aside.name}", file=sys.stderr, flush=True)
    if any(folder.glob("damaged-*")) or all_checkpoints(folder):
        raise TrainError(
            f"{folder}: no checkpoint is sound; restore one, or choose another --run-dir to begin anew "
            "(damaged ones are kept as damaged-*)"
        )
    return None


def damage(path: Path) -> str:
    """What is wrong with a checkpoint; empty when nothing is.

    Raises:
        TrainError: when a file is there but cannot be read: a network or a permission, not damage.
    """
    try:
        files = json.loads(read_file(path / MANIFEST, follow_links=True))["files"]
        for name, expected in files.items():
            if name != Path(name).name:
                return f"{MANIFEST} names a file elsewhere"
            if _describe(path / name) != expected:
                return f"{name} is not as it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except UnsafePathError as error:
        return f"{Path(error.filename).name} is no regular file"
    except OSError as error:
        raise TransientError(
            f"{error.filename or path}: cannot be read ({error.strerror}); nothing was changed, start again when it can"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is no manifest ({error})"
    return ""


def load(path: Path) -> Snapshot:
    """Reads a verified checkpoint, all on the CPU: whoever takes it in moves it where it belongs.

    Raises:
        TrainError: when another version of the program wrote it.
    """
    if (found := json.loads((path / MANIFEST).read_text()).get("format")) != FORMAT:
        raise TrainError(f"{path}: format {found}, not {FORMAT}; go on with the version of the program that wrote it")
    state = json.loads((path / "state.json").read_text())
    weights, averaged, moments = (_read(path / f"{name}.safetensors") for name in ("training", "model", "optimizer"))
    return Snapshot(weights, averaged, moments, state["updates"], state)


def _read(path: Path) -> dict[str, Tensor]:
    # Copies: what `load_file` gives is the mapped file, which another node may delete while it is still in use.
    return {name: value.clone() for name, value in load_file(path, device="cpu").items()}


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _check_space(folder: Path) -> None:
    """Refuses to start a save that the newest checkpoint says will not fit."""
    if existing := all_checkpoints(folder):
        needed = sum(file.stat().st_size for file in existing[0].iterdir())
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(28, f"{free / 1e9:.1f} GB free, a checkpoint takes {needed / 1e9:.1f} GB")
