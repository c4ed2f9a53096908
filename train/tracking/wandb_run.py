"""The W&B run of a run folder: how it is begun, and what its parts on disk hold. One part an attempt."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from shards.files import check_folder, read_file, write_atomically
from shards.reading.remote.failures import cleaned
from train.errors import TrainError
from train.runs.run_folder import RunDir
from train.tracking.wandb_settings import load_wandb, run_wandb

READING_S = 60
STEPS_FILE = "steps.json"  # beside the parts
# A server that does not answer is given up after this; WANDB_INIT_TIMEOUT overrides it.
INIT_S = 60
Mode = Literal["online", "offline"]


def start_part(run: RunDir, project: str, name: str, mode: Mode, settings: dict[str, Any]) -> Any:
    """A new part of this folder's W&B run, the same run in all attempts, over the axis `global_step`."""
    check_folder(run.path / "wandb")  # W&B would follow a link
    os.environ.setdefault("WANDB_SILENT", "true")  # it speaks before it has read its settings
    # W&B notes the words of the command line, where a URL may hold a password or a signature.
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
        config=settings,
        settings=wandb.Settings(silent=True, console="off", init_timeout=wait, x_disable_stats=True),
    )
    part.define_metric("global_step")
    part.define_metric("*", step_metric="global_step")
    return part


def to_point(row: dict[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl as W&B gets it."""
    return {"global_step": row["step"], **{k: v for k, v in row.items() if k not in ("step", "time")}}


def offline_parts(run: RunDir) -> list[Path]:
    """The files of a run's offline parts, in the order in which they were begun."""
    return _parts(run, "offline-run")


def online_parts(run: RunDir) -> list[Path]:
    """The files that its online parts left, in the order in which they were begun."""
    return _parts(run, "run")


def _parts(run: RunDir, kind: str) -> list[Path]:
    # By id: what was begun anew before its first checkpoint is another run.
    return sorted((run.path / "wandb").glob(f"{kind}-*/run-{run.run_id}.wandb"), key=lambda file: file.parent.name)


def steps_of_part(file: Path) -> list[int]:
    """The steps of the points in one part, by W&B's own reader; after a crash fewer than were logged.

    Raises:
        TrainError: when it cannot be read: taken for empty, its points would be sent again.
    """
    try:
        # In a group of its own: launchers send their SIGTERM to a process's whole group.
        done = run_wandb(["leet", "inspect", "--json", str(file.resolve())], READING_S, process_group=0)
    except subprocess.TimeoutExpired:
        raise TrainError(f"{file}: not read after {READING_S} s; try again when the machine is less busy") from None
    if done.returncode:
        raise TrainError(f"{file}: cannot be read ({(done.stderr.splitlines() or ['no word'])[-1]})")
    steps = []
    for line in done.stdout.splitlines():
        with suppress(ValueError):
            item = json.loads(line).get("history", {}).get("item", {})
            if "attempt" in item:  # not the media
                steps.append(int(item["global_step"]))
    return steps


def steps_in(parts: list[Path]) -> set[int]:
    """The steps that parts of one run hold: after a crash or on a full disk fewer than were logged.

    What was read stays in STEPS_FILE: a part takes most of a second, and a run may have had a hundred attempts.
    """
    if not parts:
        return set()
    folder = parts[0].parents[1]
    try:
        noted = json.loads(read_file(folder / STEPS_FILE))
    except (OSError, ValueError):
        noted = {}
    known = {name: part for name, part in noted.items() if (folder / name).exists()}
    for file in parts:
        name, size = file.parent.name, file.stat().st_size
        if known.get(name, {}).get("bytes") != size:
            known[name] = {"bytes": size, "steps": steps_of_part(file)}
    with suppress(OSError):  # a full disk: they are read again
        write_atomically(folder / STEPS_FILE, json.dumps(known) + "\n", inside=folder.parent)
    return {step for file in parts for step in known[file.parent.name]["steps"]}


def steps_at_server(part: Any) -> int:
    """The last step that the server has of a run resumed online, -1 when it has none: points arrive in order."""
    return int(part.summary.get("global_step", -1))
