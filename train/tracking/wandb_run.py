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
from train.tracking.wandb_settings import load_wandb, run_wandb

READING_S = 60
STEPS_FILE = "steps.json"  # in the folder of the parts
STEPS_LIMIT = 64 * MIB  # bytes
# Seconds to wait for the server; WANDB_INIT_TIMEOUT overrides it.
INIT_S = 60
Mode = Literal["online", "offline"]


def start_part(run: RunDir, project: str, name: str, mode: Mode) -> Any:
    """Starts a new part of this folder's W&B run, with `global_step` as its axis; all attempts share the run.

    Its config are the run's settings, and under `changes` what changed between attempts.
    """
    check_folder(run.path / "wandb")  # W&B would follow a link
    os.environ.setdefault("WANDB_SILENT", "true")  # W&B prints before it reads its settings
    # W&B records the command line, in which a URL may contain a password or a signature.
    sys.argv[1:] = [cleaned(word) if "://" in word else word for word in sys.argv[1:]]
    wait = float(os.environ.get("WANDB_INIT_TIMEOUT", INIT_S))
    wandb = load_wandb()
    part = wandb.init(
        project=project,
        name=name,
        id=run.run_id,
        resume="allow",
        dir=run.path,
        mode=mode,
        settings=wandb.Settings(silent=True, console="off", init_timeout=wait, x_disable_stats=True),
    )
    # Not as an argument of init: there, the settings of a resumed run that the server has would win.
    part.config.update({**run.config, "changes": [str(change) for change in run.changes]}, allow_val_change=True)
    part.define_metric("global_step")
    part.define_metric("*", step_metric="global_step")
    return part


def to_point(row: dict[str, Any]) -> dict[str, Any]:
    """Converts a line of metrics.jsonl to a point of W&B."""
    return {"global_step": row["step"], **{k: v for k, v in row.items() if k not in ("step", "time")}}


def offline_parts(run: RunDir) -> list[Path]:
    """The files of the offline parts of a run, in the order of their start."""
    return _parts(run, "offline-run")


def online_parts(run: RunDir) -> list[Path]:
    """The files of the online parts of a run, in the order of their start."""
    return _parts(run, "run")


def _parts(run: RunDir, kind: str) -> list[Path]:
    # By run id: a run that restarted before its first checkpoint is another W&B run.
    files = sorted((run.path / "wandb").glob(f"{kind}-*/run-{run.run_id}.wandb"), key=lambda file: file.parent.name)
    for file in files:  # W&B reads them, and would wait for a pipe
        check_folder(file.parent)
        check_place(file)
    return files


def steps_of_part(file: Path) -> list[int]:
    """The steps of the points in one part, read by W&B; after a crash, fewer than were logged.

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
    steps = []
    for line in done.stdout.splitlines():
        with suppress(ValueError, TypeError, AttributeError, KeyError, OverflowError):
            item = parse_json(line).get("history", {}).get("item", {})
            if "attempt" in item:  # media have no attempt
                steps.append(int(item["global_step"]))
    return steps


def steps_in(parts: list[Path]) -> set[int]:
    """The steps in the parts of one run; after a crash or on a full disk, fewer than were logged.

    STEPS_FILE caches the result: reading a part takes most of a second, and a run may have a hundred attempts.
    """
    if not parts:
        return set()
    folder = parts[0].parents[1]
    try:
        cached = read_object(folder / STEPS_FILE, STEPS_LIMIT)
    except (OSError, ValueError):
        cached = {}
    known = {name: part for name, part in cached.items() if _is_cached(part) and _exists(folder, name)}
    for file in parts:
        name, size = file.parent.name, file.stat().st_size
        if known.get(name, {}).get("bytes") != size:
            known[name] = {"bytes": size, "steps": steps_of_part(file)}
    with suppress(OSError):  # on a full disk, the next call reads the parts again
        write_atomically(folder / STEPS_FILE, json.dumps(known) + "\n", inside=folder.parent)
    return {step for file in parts for step in known[file.parent.name]["steps"]}


def _is_cached(part: Any) -> bool:
    """Whether an entry of STEPS_FILE has its size and its steps."""
    if not isinstance(part, dict) or not is_whole(part.get("bytes")) or not isinstance(part.get("steps"), list):
        return False
    return all(map(is_whole, part["steps"]))


def _exists(folder: Path, name: str) -> bool:
    return name == Path(name).name and (folder / name).exists()


def steps_at_server(part: Any) -> int:
    """The last step on the server for a run resumed online, or -1. Points arrive in order."""
    return int(part.summary.get("global_step", -1))
