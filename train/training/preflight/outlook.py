"""How long the rest of the run takes, by the pace of earlier attempts, and when this job ends."""

import os
import time
from statistics import median

from train.config import RunConfig
from train.runs.forecast import duration, forecast
from train.runs.lines import PACE, read_points
from train.runs.run_folder import METRICS_FILE, RunDir


def job_limits() -> tuple[float | None, float | None]:
    """Seconds that are left to this Slurm job, and its time limit in seconds; None without a limit."""
    try:
        end, start = (int(os.environ[f"SLURM_JOB_{name}_TIME"]) for name in ("END", "START"))
    except (KeyError, ValueError):
        return None, None
    return end - time.time(), float(end - start)


def step_seconds(config: RunConfig, run: RunDir) -> float | None:
    """Seconds of a step by the points of earlier attempts; None when there are none."""
    pace = [row[PACE] for row in read_points(run.path / METRICS_FILE) if row.get(PACE)]
    return config.data.batch / median(pace) if pace else None


def outlook(config: RunConfig, run: RunDir, step: int, save_s: float, left_s: float | None, job_s: float | None) -> str:
    """A line on the steps, saves and jobs that remain.

    Args:
        config: The run's settings.
        run: The run's folder, with the points of earlier attempts.
        step: Steps done.
        save_s: Seconds that a save takes.
        left_s: Seconds left to this job; None without a limit.
        job_s: The time limit of a job in seconds; None without a limit.
    """
    pace = step_seconds(config, run)
    steps = config.optim.steps - step
    job_end = f"; this job ends in {duration(left_s)}" if left_s is not None else ""
    if not pace:
        return (
            f"{steps:,} steps to do{job_end}; the first points tell how long they take: "
            f"python -m train status {run.path}"
        )
    seen = forecast(steps, pace, config.checkpoint.every, save_s, left_s, job_s)
    line = f"{steps:,} steps and {seen.saves:,} saves to do, about {duration(seen.seconds)}{job_end}"
    if seen.jobs:
        line += f", {seen.jobs:,} more of {duration(job_s or 0)} will follow"
    return line
