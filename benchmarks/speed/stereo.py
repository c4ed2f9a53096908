"""Stereo chunks against mono chunks of as many bytes."""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.support.data import make_shards
from benchmarks.speed.support.rows import Row, compare
from benchmarks.speed.support.trial import Trial, rounds

CHUNKS = 10000  # 450 MB
GOAL = 0.9


def measure(folder: Path, quick: bool) -> list[Row]:
    """In memory, and record by record."""
    return [_compare(folder, "in memory", None, quick), _compare(folder, "record by record", 0, quick)]


def _compare(folder: Path, title: str, memory: int | None, quick: bool) -> Row:
    chunks = 1024 if quick else CHUNKS
    short: dict[str, Any] = {"warm": chunks * (3 if memory is None else 1), "batch": 64 if quick else 256}
    short["seconds"] = 0.2 if quick else 2.0
    trials = {
        name: Trial("ours", make_shards(folder / f"{name}-{chunks}", chunks, channels), {"memory": memory}, **short)
        for name, channels in (("stereo", 2), ("mono", 1))
    }
    rates = {name: median(found) for name, found in rounds(trials, 1 if quick else 7).items()}
    what = f"{title}: stereo chunks of 0.5 s against mono ones of 1 s"
    return compare(what, rates["stereo"], rates["mono"], "chunks/s", GOAL)
