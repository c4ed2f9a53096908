"""More data than memory: our reader compared with plain O_DIRECT reads of the same blocks, and with webdataset."""

import os
import shutil
from pathlib import Path
from statistics import median

import psutil

from benchmarks.speed.support.data import SHAPE, drop_caches, make_shards
from benchmarks.speed.support.rows import Row, compare, skipped
from benchmarks.speed.support.trial import Trial, Unavailable, rounds
from shards.errors import DataError

GIB = 2**30
MARGIN = 6 * GIB  # disk space that is left free
UNIT = "chunks/s"
SIZE = "BENCH_DISK_GB"  # environment variable with the size of the set


def measure(folder: Path, quick: bool) -> list[Row]:
    """Measures all contenders in turns; the page cache of the files is dropped before each."""
    shards, memory, note = large_set(folder, quick)
    short = {"folder": shards, "seconds": 0.2 if quick else 8.0, "batch": 64 if quick else 256}
    warm = 512 if quick else 65536  # by then blocks are read as fast as they are used
    trials = {
        "ours": Trial("ours", options={"memory": memory}, warm=warm, **short),
        "in order": Trial("ours", options={"memory": memory, "shuffled": False}, warm=warm, **short),
        "blocks": Trial("direct_blocks", warm=warm // 16, **short),
    }
    rates = rounds(trials, 1 if quick else 5, lambda trial: drop_caches(trial.folder))
    ours, in_order, blocks = (median(rates[name]) for name in trials)
    rows = [
        compare("from disk: O_DIRECT reads of blocks, 4 threads", ours, blocks, UNIT, 0.9, note=note),
        compare("from disk: ours without shuffling", ours, in_order, UNIT, 0.95, note=note),
    ]
    name = "from disk: webdataset, tuned"
    slow = short | {"warm": warm // 16}
    workers = (0,) if quick else (0, 1, 2)
    rivals = {f"{n} workers": Trial("webdataset_tuned", options={"workers": n}, **slow) for n in workers}
    try:
        found = rounds(rivals, 1 if quick else 3, lambda trial: drop_caches(trial.folder))
    except Unavailable as why:
        return [*rows, skipped(name, UNIT, str(why), 5)]
    best = max(found, key=lambda key: median(found[key]))
    return [*rows, compare(name, ours, median(found[best]), UNIT, 5, note=f"{best}; {note}")]


def large_set(folder: Path, quick: bool) -> tuple[Path, int | None, str]:
    """A set that does not fit in memory, the memory limit for our reader, and a note about both.

    The set has 1.2 times the size of the memory if the disk has enough space. Otherwise it is as large as possible,
    and the reader gets less memory than the set needs.
    """
    if quick:
        chunks = 2048
        return make_shards(folder / f"set-{chunks}", chunks), 16 << 20, "tiny"
    total = psutil.virtual_memory().total
    wanted = float(os.environ[SIZE]) * GIB if SIZE in os.environ else 1.2 * total
    folder.mkdir(parents=True, exist_ok=True)
    there = next(folder.glob("large-*"), None)
    if there is not None:
        chunks = int(there.name.removeprefix("large-"))
    else:
        room = shutil.disk_usage(folder).free - MARGIN
        chunks = int(min(wanted, room)) // SHAPE.stride // 4096 * 4096
        if chunks < 2 * 65536:
            raise DataError(f"{folder} has room for {max(room, 0) / GIB:.1f} GiB, this needs 6: pass another --folder")
    shards = make_shards(folder / f"large-{chunks}", chunks)
    size = chunks * SHAPE.stride
    if size > total:
        return shards, None, f"{size / GIB:.1f} GiB, more than the memory of {total / GIB:.1f}"
    memory = max(3 * GIB, size // 4)
    return shards, memory, f"{size / GIB:.1f} GiB with {memory / GIB:.1f} for the reader, caches dropped"
