"""Checkpoints that are complete or absent.

    RUN_DIR/checkpoints/step-00001234/
        manifest.json             sizes and sha256 of the files below, and a sha256 of its own
        state.json                step and data cursor
    run.json                  what the run was made of
        training.safetensors      weights and buffers as trained
        optimizer.safetensors     AdamW's moments
        discriminator.safetensors, discriminator_optimizer.safetensors   of an adversarial phase
        config.json, model.safetensors, encoder.safetensors, ...   averaged weights, for `audiovae.load`

A checkpoint is written as step-00001234.RANDOM.tmp, synced and renamed; only then are older ones deleted. A damaged
one is renamed, never deleted.
"""

import json
import math
import os
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
from audiovae import ModelError
from audiovae.trainable import Trainable
from shards.files import UnsafePathError, is_number, is_whole, open_regular, read_object, sha256_of
from shards.files import write_folder as write_whole_folder
from shards.text import printable
from train.adversarial.discriminator_file import DISCRIMINATOR_FILE, write_discriminator
from train.errors import TrainError, TransientError
from train.optim.ranking import HIGHER_IS_BETTER, VALUES, held_out
from train.optim.snapshot import Snapshot
from train.runs.record import RECORD_FILE, Record, checksum

MANIFEST = "manifest.json"
# The format of checkpoints, and of those with a discriminator: a version without the adversarial phase would lose it.
FORMAT, ADVERSARIAL_FORMAT = 2, 3
# Formats of versions whose manifests had no checksum; None is one without the entry.
UNSEALED_FORMATS = (None, 1, FORMAT)
TENSORS = ("training", "model", "optimizer")
DISCRIMINATOR_MOMENTS = "discriminator_optimizer.safetensors"
NAME = re.compile(r"step-(\d{8,})")
# The entry of a state that depends on the clock alone.
TIMED = "gpu_seconds"


@dataclass(frozen=True)
class Retention:
    """Which checkpoints to keep: the newest, the best, and those at multiples of a step.

    Attributes:
        newest: Number of newest checkpoints to keep.
        best: Keep the one with the best held-out value in its state too.
        every: Keep those whose step is a multiple of this too; 0 means none.
        steps: Keep those of these steps too, such as the one before the adversarial phase.
        best_by: The held-out measure that says which one is the best.
    """

    newest: int = 3
    best: bool = True
    every: int = 0
    steps: tuple[int, ...] = ()
    best_by: str = "si_sdr"


def save(
    folder: Path, model: Trainable, snapshot: Snapshot, retention: Retention, record: Record | None = None
) -> Path:
    """Writes a checkpoint for snapshot.state["step"] and deletes older ones; only one process may call it.

    Args:
        folder: The folder of the checkpoints.
        model: The model, for its configuration and the names of its parts.
        snapshot: What a checkpoint holds.
        retention: Which checkpoints to keep.
        record: What the run was made of.

    Raises:
        TrainError: when the disk is full or not writable; older checkpoints then stay.
    """
    final = folder / f"step-{snapshot.state['step']:08d}"
    state = {**snapshot.state, "updates": snapshot.updates}
    discriminator = snapshot.discriminator
    if discriminator:
        state["discriminator_updates"] = discriminator.updates
    if _holds(final, state):
        return final

    def fill(temporary: Path) -> None:
        _check_space(folder)
        audiovae.save(model, temporary, snapshot.averaged)
        save_file({**snapshot.weights}, temporary / "training.safetensors")
        save_file({**snapshot.moments}, temporary / "optimizer.safetensors")
        if discriminator:
            write_discriminator(temporary, discriminator.weights, discriminator.state)
            save_file({**discriminator.moments}, temporary / DISCRIMINATOR_MOMENTS)
        if record:
            (temporary / RECORD_FILE).write_bytes(record.to_bytes())
        (temporary / "state.json").write_text(json.dumps(state, indent=1) + "\n")
        files = {path.name: _describe(path) for path in sorted(temporary.iterdir())}
        manifest: dict[str, Any] = {"format": ADVERSARIAL_FORMAT if discriminator else FORMAT, "files": files}
        sealed = manifest | {"sha256": checksum(manifest)}
        (temporary / MANIFEST).write_text(json.dumps(sealed, indent=1) + "\n")

    remove_unfinished(folder)
    write_folder(final, fill, inside=folder.parent)
    for old in deletable(folder, retention, good_step(state)):
        shutil.rmtree(old, ignore_errors=True)
    return final


def _holds(path: Path, state: dict[str, Any]) -> bool:
    """Whether a checkpoint has this state, at whatever time it was reached.

    One saved during an evaluation lacks what that measured.
    """
    try:
        found = read_object(path / "state.json", follow_links=True)
    except (OSError, ValueError):
        return False
    return found | {TIMED: None} == state | {TIMED: None}


def good_step(state: dict[str, Any]) -> int | None:
    """The step of the last evaluation that found the training sound; None where a state does not say it.

    Checkpoints after it may turn out to be bad in the next evaluation.
    """
    health = state.get("health", {})
    return health["good"] if isinstance(health, dict) and is_whole(health.get("good")) else None


def last_good(folder: Path, good: int, since: int, by: str = "si_sdr") -> Path | None:
    """The newest intact checkpoint up to the step `good`; else the best `by` a measure from before `since`; or None."""
    for path in all_checkpoints(folder):
        if step_of(path) <= good and not damage(path):
            return path
    best = best_checkpoint(folder, by)
    return best if best and step_of(best) < since and not damage(best) else None


def deletable(folder: Path, retention: Retention, good: int | None = None) -> list[Path]:
    """The checkpoints that `retention` does not keep; the newest up to the step `good` is kept, too."""
    found = all_checkpoints(folder)
    sound = next((path for path in found if good is not None and step_of(path) <= good), None)
    best = best_checkpoint(folder, retention.best_by) if retention.best else None
    return [
        path
        for path in found[retention.newest :]
        if path not in (best, sound)
        and step_of(path) not in retention.steps
        and not (retention.every and step_of(path) % retention.every == 0)
    ]


def best_checkpoint(folder: Path, by: str = "si_sdr") -> Path | None:
    """The checkpoint with the best held-out value of a measure, of equal ones the newest; None when none has one."""
    measured = {}
    for path in all_checkpoints(folder):
        try:
            if (path / MANIFEST).exists() and _is_damaged(path / "state.json", _listed_files(path)):
                continue
            values = held_out(read_object(path / "state.json", follow_links=True))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # damaged
        if by in values:
            measured[path] = values[by] if by in HIGHER_IS_BETTER else -values[by]
    return max(measured, key=lambda path: measured[path], default=None)


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint's folder."""
    return int(path.name[5:])


def remove_unfinished(folder: Path) -> None:
    """Deletes the temporary folders of saves that were killed."""
    for unfinished in folder.glob("step-*.tmp"):
        shutil.rmtree(unfinished, ignore_errors=True)


def write_folder(final: Path, fill: Callable[[Path], object], inside: Path | None = None) -> None:
    """Writes a folder of a run that is complete or absent, see `shards.files`.

    Raises:
        TrainError: when it cannot be written; an older `final` then stays unchanged.
    """
    try:
        write_whole_folder(final, fill, inside)
    except UnsafePathError as error:
        raise TrainError(str(error)) from None
    except (OSError, RuntimeError, SafetensorError, ModelError) as error:  # a full disk raises any of them
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise TrainError(
            f"{final}: cannot be saved ({reason}); free disk space and run the same command to resume"
        ) from error


def all_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, newest first; not verified."""
    found = [path for path in folder.glob("step-*") if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def newest_intact(folder: Path, set_aside: bool = True) -> Path | None:
    """The newest checkpoint whose files all have the sizes and hashes of its manifest; None when nothing was saved.

    Args:
        folder: The folder of the checkpoints.
        set_aside: Rename damaged ones to damaged-*, with a warning. False when another process may be training there.

    Raises:
        TransientError: when files cannot be read at the moment.
        TrainError: when every checkpoint is damaged, as a new start would discard the run.
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
            print(printable(f"warning: {path}: {problem}; renamed to {aside.name}"), file=sys.stderr, flush=True)
    if any(folder.glob("damaged-*")) or all_checkpoints(folder):
        raise TrainError(
            f"{folder}: no checkpoint is intact; restore one, or choose another --run-dir to start anew "
            "(damaged ones are kept as damaged-*)"
        )
    return None


def damage(path: Path) -> str:
    """Describes the damage of a checkpoint; empty when it is intact.

    Raises:
        TransientError: when a file exists but cannot be read, for example because of the network or its permissions.
    """
    try:
        files = _listed_files(path)
        for name in files:
            if name != Path(name).name:
                return f"{MANIFEST} names a file outside of the checkpoint"
            if _is_damaged(path / name, files):
                return f"{name} differs from what was saved"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except UnsafePathError as error:
        return f"{Path(error.filename).name} is no regular file"
    except OSError as error:
        raise TransientError(
            f"{error.filename or path}: cannot be read ({error.strerror}); nothing was changed; run the same command "
            "when it can be read"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is not a manifest ({error})"
    return ""


def _listed_files(path: Path) -> dict[str, Any]:
    """The files in a checkpoint's manifest with their sizes and hashes.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: when the manifest is damaged.
    """
    manifest = read_object(path / MANIFEST, follow_links=True)
    expected = manifest.pop("sha256", None)
    # A manifest of another version has its checksum too, and `load` names that version.
    is_sound = manifest.get("format") in UNSEALED_FORMATS if expected is None else expected == checksum(manifest)
    if not is_sound:
        raise ValueError("its checksum does not match")
    files: dict[str, Any] = manifest["files"]
    return files


def _is_damaged(file: Path, files: dict[str, Any]) -> bool:
    """Whether a file of a checkpoint differs from its entry in the manifest."""
    expected = files[file.name]
    return (file.is_file() and file.stat().st_size != expected["bytes"]) or _describe(file) != expected


def load(path: Path) -> Snapshot:
    """Reads a verified checkpoint; all tensors are on the CPU.

    Raises:
        TrainError: when another version of the program wrote it, or its files do not hold what they should.
    """
    try:
        found = read_object(path / MANIFEST, follow_links=True).get("format")
        if found not in (FORMAT, ADVERSARIAL_FORMAT):
            raise TrainError(
                f"{path}: format {found!s:.40}, not {FORMAT} or {ADVERSARIAL_FORMAT}; "
                "resume with the version of the program that wrote it"
            )
        state = read_object(path / "state.json", follow_links=True)
        if not all(is_whole(state.get(key)) for key in ("step", "updates")):
            raise ValueError("state.json has no step or no updates")
        unlogged = state.get("unlogged", {})
        if not (isinstance(unlogged, dict) and all(map(is_number, unlogged.values()))):
            raise ValueError("state.json has values of a point that are no numbers")
        measured = state.get(VALUES, {})
        if not (isinstance(measured, dict) and all(map(is_number, measured.values()))):
            raise ValueError("state.json has held-out values that are no numbers")
        if not (is_number(seconds := state.get(TIMED, 0.0)) and 0 <= seconds < math.inf):
            raise ValueError(f"state.json has {TIMED} that are no number")
        weights, averaged, moments = (_read(path / f"{name}.safetensors") for name in TENSORS)
        discriminator = None
        if found == ADVERSARIAL_FORMAT:
            if not is_whole(updates := state.get("discriminator_updates")):
                raise ValueError("state.json has no updates of the discriminator")
            parts = (_read(path / name) for name in (DISCRIMINATOR_FILE, DISCRIMINATOR_MOMENTS))
            discriminator = Snapshot(next(parts), {}, next(parts), updates)
    except (ValueError, SafetensorError) as error:
        raise TrainError(f"{path}: damaged ({str(error).splitlines()[0]}); remove it to use an older one") from None
    return Snapshot(weights, averaged, moments, state["updates"], state, discriminator)


def _read(path: Path) -> dict[str, Tensor]:
    os.close(open_regular(path, follow_links=True))  # `load_file` would wait for a pipe
    # Copies, as `load_file` maps the file, which another node may delete while it is in use.
    return {name: value.clone() for name, value in load_file(path, device="cpu").items()}


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _check_space(folder: Path) -> None:
    """Raises OSError when the disk has less free space than the newest checkpoint takes."""
    if existing := all_checkpoints(folder):
        needed = sum(file.stat().st_size for file in existing[0].iterdir())
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(28, f"{free / 1e9:.1f} GB free, a checkpoint takes {needed / 1e9:.1f} GB")
