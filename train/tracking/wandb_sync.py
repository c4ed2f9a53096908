"""`python -m train sync RUN_DIR`: uploads all points of a run that W&B lacks, as one W&B run."""

import os
import subprocess
from pathlib import Path
from typing import Any

import wandb

from shards.reading.remote.failures import cleaned
from shards.text import printable
from train.errors import TrainError
from train.runs.lines import read_points
from train.runs.run_folder import METRICS_FILE, RunDir
from train.runs.status import is_locked
from train.tracking.wandb_run import (
    DELETED,
    Mode,
    by_attempt,
    offline_parts,
    online_parts,
    start_part,
    steps_at_server,
    steps_in,
    to_point,
    what_to_do,
)
from train.tracking.wandb_settings import run_wandb, server_answers, server_url, wandb_mode

UPLOAD_S = 3600


def sync(settings: Any) -> int:
    """Adds points that a crash kept from the W&B files, uploads the files by attempt; returns the exit code."""
    run = RunDir.open(settings.run_dir)
    if not (run.path / METRICS_FILE).exists():
        raise TrainError(f"{run.path}/{METRICS_FILE}: nothing has been logged yet")
    if is_locked(run.path / "lock"):
        raise TrainError(f"{run.path}: a process is training in this folder; run sync after it has ended")
    added = complete(run)
    parts = by_attempt(offline_parts(run))
    found = f"{len(parts)} offline parts of run {run.run_id}, {added} points added from {METRICS_FILE}"
    print(printable(found), flush=True)
    if settings.prepare:
        return 0
    if wandb_mode("auto") != "online":
        server = cleaned(server_url())
        raise TrainError(
            f"no W&B API key for {server}: run wandb login --host {server}, or set WANDB_API_KEY, on a machine that "
            "reaches it"
        )
    if not server_answers():
        raise TrainError(
            f"not uploaded: W&B at {cleaned(server_url())} does not answer; run the same command again where it does"
        )
    there = send_rest(run, steps_in(parts)) if online_parts(run) else -1
    for part in parts:
        if is_uploaded(part) or max(steps_in([part]), default=0) <= there:
            print(printable(f"{part.parent.name} is already uploaded"))
        else:
            print(printable(f"uploading {part.parent.name} ..."), flush=True)
            upload(run, part.parent)
    print(printable(f"run {run.run_id} is completely uploaded"))
    return 0


def complete(run: RunDir) -> int:
    """Writes the points of metrics.jsonl that no part on disk holds into a new part; returns their number."""
    known = steps_in(online_parts(run) + offline_parts(run))
    missing = [row for row in read_points(run.path / METRICS_FILE) if row["step"] not in known]
    if missing:
        send(run, "offline", missing)
    return len(missing)


def send(run: RunDir, mode: Mode, rows: list[dict[str, Any]]) -> int:
    """Sends the rows that the server lacks as a new part; returns the last step that the server had before."""
    part = start_part(run, run.config.get("tracking.project") or "", run.config.get("tracking.name") or "", mode)
    there = steps_at_server(part) if mode == "online" else -1
    for row in rows:
        if row["step"] > there:
            part.log(to_point(row))
    part.finish()
    return there


def send_rest(run: RunDir, offline: set[int]) -> int:
    """Sends points that are in no offline part; returns the last step that the server had before."""
    rows = [row for row in read_points(run.path / METRICS_FILE) if row["step"] not in offline]
    try:
        return send(run, "online", rows)
    except (wandb.Error, OSError) as error:
        raise TrainError(what_to_do(run, str(error))) from None


def is_uploaded(part: Path) -> bool:
    """Whether the wandb command has marked this part as uploaded."""
    return part.with_name(f"{part.name}.synced").exists()


def upload(run: RunDir, part: Path) -> None:
    """Uploads one part with the wandb command."""
    # By default W&B repeats refused requests for hours.
    os.environ.setdefault("WANDB_X_GRAPHQL_RETRY_MAX", "4")
    try:
        done = run_wandb(["sync", str(part.resolve())], UPLOAD_S)
    except subprocess.TimeoutExpired:
        raise TrainError(f"{part}: not uploaded within {UPLOAD_S} s; run the same command again") from None
    output = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if any(DELETED in line for line in output):
        raise TrainError(what_to_do(run, DELETED))
    if done.returncode or any("error" in line.lower() for line in output):
        reason = next((line for line in output if "error" in line.lower()), "no message")
        raise TrainError(f"{part}: not uploaded ({reason[:200]}); run the same command again with network access")
    print(printable(f"uploaded {part.name} with wandb {wandb.__version__}"))
