"""Reads the progress of a run from its folder while the run writes to it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from train.runs import checkpoint
from train.runs.run_folder import read_lines

TAIL = 16384  # bytes, enough for one point


def last_attempt(run: Path) -> dict[str, Any] | None:
    """The `started` event of the newest attempt, or None."""
    return next(reversed(read_lines(run / "attempts.jsonl", "started")), None)


def last_point(run: Path) -> dict[str, Any] | None:
    """The last complete line of metrics.jsonl, or None."""
    with suppress(OSError), open(run / "metrics.jsonl", "rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL))
        for line in reversed(file.read().splitlines()):
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and "step" in row:
                    return row
    return None


def sizes(run: Path) -> dict[Path, int]:
    """The size in bytes of each rank's log of samples."""
    return {file: file.stat().st_size for file in (run / "samples").glob("rank-*.jsonl")}


def reached(run: Path, before: dict[Path, int]) -> int | None:
    """The last step of any rank after the given sizes of the logs; None if there was no step."""
    steps = []
    for file in (run / "samples").glob("rank-*.jsonl"):
        with open(file, "rb") as content:
            content.seek(before.get(file, 0))
            for line in content.read().splitlines():
                with suppress(ValueError):
                    steps.append(json.loads(line)["step"])
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
