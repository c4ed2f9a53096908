"""Several data sets in fixed shares against one data set of the same size."""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.support.data import SHAPE, make_shards
from benchmarks.speed.support.rows import Row, compare
from benchmarks.speed.support.trial import Trial, rounds

CHUNKS = 30000  # 1.4 GB; no power of two, with which the order of a single set is computed faster
IN_BLOCKS = 98304  # 4.4 GB: the least of which two sets do not have to be held whole
BLOCKS = 1450  # of 1,536, and more than both readers need
UNIT = "chunks/s"
GOAL = 0.9


def measure(folder: Path, quick: bool) -> list[Row]:
    """In memory, and in blocks or, in the quick run, record by record."""
    if quick:
        return [_compare(folder, "in memory", 2048, None, True), _compare(folder, "record by record", 2048, 0, True)]
    return [
        _compare(folder, "in memory", CHUNKS, None, False),
        _compare(folder, "in blocks", IN_BLOCKS, BLOCKS * 64 * SHAPE.stride, False),
    ]


def _compare(folder: Path, title: str, chunks: int, memory: int | None, quick: bool) -> Row:
    one = make_shards(folder / f"set-{chunks}", chunks)
    sizes = chunks * 5 // 8, chunks * 3 // 8
    parts = [make_shards(folder / f"set-{chunks}-{k}", size) for k, size in enumerate(sizes)]
    # In memory the checksum of each chunk is verified once. Blocks of two sets are twice as many to read at the start.
    short: dict[str, Any] = {"warm": chunks * (3 if memory is None else 1), "batch": 64 if quick else 256}
    short["seconds"] = 0.2 if quick else 3.0
    trials = {
        "mixed": Trial("ours_mixed", parts[0], {"others": parts[1:], "memory": memory}, **short),
        "one": Trial("ours", one, {"memory": memory}, **short),
    }
    rates = {name: median(found) for name, found in rounds(trials, 1 if quick else 5).items()}
    return compare(f"{title}: two data sets against one of their size", rates["mixed"], rates["one"], UNIT, GOAL)
