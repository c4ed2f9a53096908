"""Starts the W&B run of a run folder and reads its parts on disk. Each attempt writes one part."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from shards.files import MIB, check_folder, check_place, is_whole, parse_json, read_object, write_atomically
from shards.reading.remote.failures import cleaned
from train.errors import TrainError
from train.runs.run_folder import RunDir
from train.tracking.wandb_environment import name_of, project_of, restore_environment
from train.tracking.wandb_settings import load_wandb, run_wandb

READING_S = 600  # W&B takes a second; only where it hangs, so long
STEPS_FILE = "steps.json"  # in the folder of the parts
STEPS_LIMIT = 64 * MIB  # bytes
# Seconds to wait for the server; WANDB_INIT_TIMEOUT overrides it.
INIT_S = 60
Mode = Literal["online", "offline"]
# Words of the server about the id of a run that was deleted; it takes nothing more under that id.
DELETED = "previously created and deleted"


def start_part(run: RunDir, project: str, name: str, mode: Mode) -> Any:
    """Starts a new part of this folder's W&B run, with `global_step` as its axis; all attempts share the run.

    Its config are the run's settings, under `changes` what changed between attempts, and under `parent` the run that
    this one is a copy of.
    """
    check_folder(run.path / "wandb")  # W&B would follow a link
    os.environ.setdefault("WANDB_SILENT", "true")  # W&B prints before it reads its settings
    # W&B records the command line, in which a URL may contain a password or a signature.
    sys.argv[1:] = [cleaned(word) if "://" in word else word for word in sys.argv[1:]]
    restore_environment(run)
    wait = float(os.environ.get("WANDB_INIT_TIMEOUT", INIT_S))
    wandb = load_wandb()
    part = wandb.init(
        project=project_of(run, project),
        name=name_of(run, name),
        id=run.run_id,
        resume="allow",
        dir=run.path,
        mode=mode,
        settings=wandb.Settings(silent=True, console="off", init_timeout=wait, x_disable_stats=True),
    )
    # Not as an argument of init: there, the settings of a resumed run that the server has would win.
    about = {"changes": [str(change) for change in run.changes], "parent": run.record.parent}
    part.config.update({**run.config, **about}, allow_val_change=True)
    part.define_metric("global_step")
    part.define_metric("*", step_metric="global_step")
    return part


def what_to_do(run: RunDir, message: str) -> str:
    """What is wrong with an upload that the server refused with a message, and the remedy."""
    if DELETED in message:
        return (
            f"run {run.run_id} was deleted at W&B; restore it there and run python -m train sync {run.path}, or upload "
            f"it as another run: wandb sync --include-online --id NEW_ID {run.path}/wandb/*run-*"
        )
    return f"W&B cannot be reached ({first_line(message)}); to upload later, run python -m train sync {run.path}"


def first_line(message: str) -> str:
    """The first line of an error message, without passwords in addresses of proxies and servers."""
    return cleaned(next(iter(message.splitlines()), ""))


def to_point(row: dict[str, Any]) -> dict[str, Any]:
    """Converts a line of metrics.jsonl to a point of W&B."""
    return {"global_step": row["step"], **{k: v for k, v in row.items() if k not in ("step", "time")}}


def offline_parts(run: RunDir) -> list[Path]:
    """The files of the offline parts of a run, in the order of their names: by the local times of their starts."""
    return _parts(run, "offline-run")


def online_parts(run: RunDir) -> list[Path]:
    """The files of the online parts of a run, in the order of their names."""
    return _parts(run, "run")


def _parts(run: RunDir, kind: str) -> list[Path]:
    # By run id: a run that restarted before its first checkpoint is another W&B run.
    files = sorted((run.path / "wandb").glob(f"{kind}-*/run-{run.run_id}.wandb"), key=lambda file: file.parent.name)
    for file in files:  # W&B reads them, and would wait for a pipe
        check_folder(file.parent)
        check_place(file)
    return files


def steps_of_part(file: Path) -> list[int]:
    """The steps of the points in one part; errors as in `points_of_part`."""
    return [step for step, _ in points_of_part(file)]


def points_of_part(file: Path) -> list[tuple[int, int]]:
    """Step and attempt of the points in one part, read by W&B; after a crash, fewer than were logged.

    Raises:
        TrainError: if it cannot be read. Treating it as empty would send its points twice.
    """
    try:
        # In its own process group, because launchers send SIGTERM to the whole group.
        done = run_wandb(["leet", "inspect", "--json", str(file.resolve())], READING_S, process_group=0)
    except subprocess.TimeoutExpired:
        raise TrainError(f"{file}: not read within {READING_S} s; try again when the machine is less busy") from None
    if done.returncode:
        raise TrainError(f"{file}: cannot be read ({(done.stderr.splitlines() or ['no message'])[-1]})")
    points = []
    for line in done.stdout.splitlines():
        with suppress(ValueError, TypeError, AttributeError, KeyError, OverflowError):
            item = parse_json(line).get("history", {}).get("item", {})
            if "attempt" in item:  # media have no attempt
                points.append((int(item["global_step"]), int(item["attempt"])))
    return points


def steps_in(parts: list[Path]) -> set[int]:
    """The steps in the parts of one run; after a crash or on a full disk, fewer than were logged."""
    return {step for part in _contents_of(parts) for step in part["steps"]}


def by_attempt(parts: list[Path]) -> list[Path]:
    """The parts of one run in the order of the last attempts and steps in them.

    The server keeps the values of the part that it gets last. The names of the parts have another order where nodes
    are in different time zones, or a clock was set back.
    """
    contents = _contents_of(parts)
    last = [(part["attempt"], max(part["steps"], default=-1)) for part in contents]
    return [file for _, file in sorted(zip(last, parts, strict=True), key=lambda pair: pair[0])]


def _contents_of(parts: list[Path]) -> list[dict[str, Any]]:
    """The `steps` and the last `attempt` of each part of one run.

    STEPS_FILE caches the result: reading a part takes most of a second, and a run may have a hundred attempts.
    """
    if not parts:
        return []
    folder = parts[0].parents[1]
    try:
        cached = read_object(folder / STEPS_FILE, STEPS_LIMIT)
    except (OSError, ValueError):
        cached = {}
    known = {name: part for name, part in cached.items() if _is_cached(part) and _exists(folder, name)}
    for file in parts:
        name, size = file.parent.name, file.stat().st_size
        if known.get(name, {}).get("bytes") != size:
            points = points_of_part(file)
            attempt = max((attempt for _, attempt in points), default=0)
            known[name] = {"bytes": size, "steps": [step for step, _ in points], "attempt": attempt}
    with suppress(OSError):  # on a full disk, the next call reads the parts again
        write_atomically(folder / STEPS_FILE, json.dumps(known) + "\n", inside=folder.parent)
    return [known[file.parent.name] for file in parts]


def _is_cached(part: Any) -> bool:
    """Whether an entry of STEPS_FILE has its size, its steps and its attempt, which older versions left out."""
    if not isinstance(part, dict) or not isinstance(part.get("steps"), list):
        return False
    if not is_whole(part.get("bytes")) or not is_whole(part.get("attempt")):
        return False
    return all(map(is_whole, part["steps"]))


def _exists(folder: Path, name: str) -> bool:
    return name == Path(name).name and (folder / name).exists()


def steps_at_server(part: Any) -> int:
    """The last step on the server for a run resumed online, or -1. Points arrive in order."""
    return int(part.summary.get("global_step", -1))
