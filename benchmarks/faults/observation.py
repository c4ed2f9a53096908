"""Reads the progress of a run from its folder while the run writes to it."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from shards.files import parse_lines, read_file, read_lines
from train.runs import checkpoint
from train.runs.run_folder import METRICS_FILE

TAIL = 16384  # bytes, enough for one point


def last_attempt(run: Path) -> dict[str, Any] | None:
    """The `started` event of the newest attempt, or None."""
    return next(reversed(read_lines(run / "attempts.jsonl", "started")), None)


def last_point(run: Path) -> dict[str, Any] | None:
    """The last complete line of metrics.jsonl, or None."""
    file = run / METRICS_FILE
    with suppress(OSError):
        rows = parse_lines(read_file(file, start=max(0, file.stat().st_size - TAIL)))
        return next((row for row in reversed(rows) if "step" in row), None)
    return None


def sizes(run: Path) -> dict[Path, int]:
    """The size in bytes of each rank's log of samples."""
    return {file: file.stat().st_size for file in (run / "samples").glob("rank-*.jsonl")}


def reached(run: Path, before: dict[Path, int]) -> int | None:
    """The last step of any rank after the given sizes of the logs; None if there was no step."""
    steps = []
    for file in (run / "samples").glob("rank-*.jsonl"):
        steps += [row["step"] for row in parse_lines(read_file(file, start=before.get(file, 0)))]
    return max(steps, default=None)


def newest_intact(run: Path) -> int:
    """The step from which the next attempt must resume; 0 without an intact checkpoint."""
    found = checkpoint.newest_intact(run / "checkpoints", set_aside=False) if (run / "checkpoints").exists() else None
    return checkpoint.step_of(found) if found else 0


def is_saving(run: Path, since: float) -> bool:
    """Whether a checkpoint is being written that was started after `since` (Unix time)."""
    with suppress(OSError):
        return any(path.stat().st_mtime >= since for path in (run / "checkpoints").glob("step-*.tmp"))
    return False


def first_step_of(run: Path, attempt: int) -> float | None:
    """Unix time of the first step of an attempt, or None if it made no step."""
    start = last_attempt(run)
    if start is None or start["attempt"] != attempt:
        return None
    own = [row for row in read_lines(run / METRICS_FILE) if row["attempt"] == attempt]
    return next((row["time"] for row in own if row["step"] > start["step"]), None)
