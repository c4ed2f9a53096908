"""`python -m train sync RUN_DIR`: the offline parts of a run, made whole and uploaded to W&B as one run."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import wandb

from train.errors import TrainError
from train.rundir import METRICS_FILE, RunDir, read_lines
from train.tracking import offline_parts, offline_steps, start_wandb, to_point, wandb_mode

UPLOAD_S = 3600


def sync(settings: Any) -> int:
    """Adds what a crash kept from the files, then uploads them in the order of the attempts; returns the exit code."""
    run = RunDir.open(settings.run_dir)
    if not offline_parts(run.path / "wandb"):
        raise TrainError(
            f"{run.path}/wandb: no offline part of a run there; was it online, or --tracking.wandb disabled?"
        )
    added = complete(run)
    parts = offline_parts(run.path / "wandb")
    print(f"{len(parts)} parts of run {run.run_id}, {added} points added from {METRICS_FILE}")
    if settings.prepare:
        return 0
    if wandb_mode("auto") != "online":
        raise TrainError("no W&B API key: run wandb login, or set WANDB_API_KEY, where there is a network")
    for part in parts:
        upload(part.parent)
    print(f"all of run {run.run_id} is at W&B")
    return 0


def complete(run: RunDir) -> int:
    """Writes the points of metrics.jsonl that no offline part holds into a part of their own; returns how many."""
    known = offline_steps(run.path / "wandb")
    missing = [row for row in read_lines(run.path / METRICS_FILE) if row["step"] not in known]
    if missing:
        part = start_wandb(run, run.config.get("tracking.project", ""), run.path.name, "offline", run.config)
        for row in missing:
            part.log(to_point(row))
        part.finish()
    return len(missing)


def upload(part: Path) -> None:
    """Hands one part to W&B's own command."""
    command = [sys.executable, "-m", "wandb", "sync", str(part)]
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=UPLOAD_S, check=False)
    except subprocess.TimeoutExpired:
        raise TrainError(f"{part}: not uploaded after {UPLOAD_S} s; run the same command again") from None
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode or any("error" in line.lower() for line in said):
        reason = next((line for line in said if "error" in line.lower()), "no word")
        raise TrainError(f"{part}: not uploaded ({reason[:200]}); run the same command again where there is a network")
    print(f"uploaded {part.name} with wandb {wandb.__version__}")
