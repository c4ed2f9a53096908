"""The lines of a run's files, checked: a damaged line, or an entry of another type, counts as missing.

Needs only the standard library and `shards.files`, because the decision to requeue uses it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.files import cleaned, is_flag, is_moment, is_number, is_text, is_whole, read_file
from train.runs.sealed_lines import read_sealed

MOST_NAMES = 1000  # of metrics in a run
LONGEST_NOTE = 1 << 16  # bytes of DONE, STOPPED and the error file
EARLY = "finished early: "  # in DONE, before why the run ended before its last step
PACE = "perf/chunks_per_second"


def read_points(path: Path) -> list[dict[str, Any]]:
    """The points of metrics.jsonl: each has a `step`, most an `attempt` and a `time`; all other values are numbers.

    Raises:
        UnsafePathError, OSError: as `shards.files.read_lines`.
    """
    return points_of(read_sealed(path))


def points_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points in lines of metrics.jsonl, see `read_points`."""
    points, names = [], set[str]()
    for row in rows:
        if not is_whole(row.get("step")):
            continue
        values = {key: value for key, value in row.items() if key not in _OF_A_POINT and is_number(value)}
        if PACE in values and not 1e-9 < values[PACE] < 1e12:  # times are computed from it
            del values[PACE]
        names.update(values if len(names) + len(values) <= MOST_NAMES else ())
        points.append(cleaned(row, _OF_A_POINT) | {key: value for key, value in values.items() if key in names})
    return points


@dataclass(frozen=True)
class Done:
    """What DONE says: `step N: finished; NOTE` or `step N: finished early: WHY; NOTE`.

    Attributes:
        step: The step at which the run finished.
        early: Why it finished before its last step; else empty.
        diverged: What it says of a training that diverged; else empty.
    """

    step: int
    early: str
    diverged: str


def read_done(path: Path) -> Done | None:
    """The content of DONE; None without the file, or where it names no step."""
    try:
        line = read_file(path, limit=LONGEST_NOTE).decode(errors="replace").partition("\n")[0]
        step = int(line.split()[1].rstrip(":"))
    except (OSError, ValueError, IndexError):
        return None
    how, _, note = line.partition(": ")[2].partition("; ")
    return Done(step, how.partition(EARLY)[2].strip(), note.strip()) if is_whole(step) else None


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines of attempts.jsonl: each has the text `event`, and those entries that are valid.

    Raises:
        UnsafePathError, OSError: as `shards.files.read_lines`.
    """
    return [row for line in read_sealed(path) if "event" in (row := cleaned(line, _OF_AN_EVENT))]


def read_decisions(path: Path) -> list[dict[str, Any]]:
    """The lines of jobs.jsonl with those entries that are valid.

    Raises:
        UnsafePathError, OSError: as `shards.files.read_lines`.
    """
    return [cleaned(line, _OF_A_DECISION) for line in read_sealed(path)]


def seconds_of_a_save(path: Path) -> float:
    """The time of a save by preflight.json; 0 where that is not known.

    Raises:
        UnsafePathError, OSError: as `shards.files.read_lines`.
    """
    lines = read_sealed(path)
    seconds = lines[-1].get("save_s") if lines else 0.0
    return seconds if is_number(seconds) and math.isfinite(seconds) and 0 <= seconds < 1e9 else 0.0


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


Kinds = dict[str, Callable[[Any], bool]]
_OF_A_POINT: Kinds = {"step": is_whole, "attempt": is_whole, "time": is_moment}
_OF_AN_EVENT: Kinds = {
    "event": is_text,
    "attempt": is_whole,
    "time": is_moment,
    "seen": is_moment,
    "job": is_text,
    "reason": is_text,
    **dict.fromkeys(("world", "pid", "step", "epoch", "consumed", "batch"), is_whole),
    "seed": _is_seed,
    "mixture": _is_list,
}
_OF_A_DECISION: Kinds = {
    "time": is_moment,
    "job": is_text,
    "why": is_text,
    **dict.fromkeys(("attempt", "newest"), is_whole),
    **dict.fromkeys(("began", "again"), is_flag),
}
