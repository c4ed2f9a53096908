"""Resuming an epoch on another number of processes: time, and chunks repeated or lost, beside litdata's."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.speed.support.data import make_shards
from benchmarks.speed.support.rows import Row, skipped
from benchmarks.speed.support.trial import Unavailable, in_new_process

CHUNKS = 1920
BATCH = 16  # chunks of a process, of litdata
GLOBAL = 48  # of all, of ours: it does not depend on the number of processes
BEFORE = 288  # chunks seen by all processes until the change; what is left are whole batches for both
WORLDS = ((2, 3), (3, 2), (2, 6), (6, 1))


def measure(folder: Path, quick: bool) -> list[Row]:
    """An epoch of distinct chunks, cut after some batches, and finished by other processes, one after the other."""
    shards = make_shards(folder / f"set-{CHUNKS}", CHUNKS)
    worlds = WORLDS[:1] if quick else WORLDS
    ours = [in_new_process(_epoch, "ours", shards, *pair) for pair in worlds]
    once = min(CHUNKS - repeated - lost for repeated, lost, _ in ours)
    rows = [Row("chunks seen once after a change of processes", once, CHUNKS, once / CHUNKS, "chunks", 1.0)]
    name = "first batch after a change from {} to {} processes"
    try:
        theirs = [in_new_process(_epoch, "litdata", shards, *pair) for pair in worlds]
    except Unavailable as why:
        return [*rows, skipped(f"{name.format(*worlds[0])}, compared with litdata", "s", str(why))]
    for pair, mine, other in zip(worlds, ours, theirs, strict=True):
        note = "; ".join(
            f"{who}: {repeated} repeated, {lost} lost"
            for who, (repeated, lost, _) in (("ours", mine), ("litdata", other))
        )
        rows.append(Row(name.format(*pair), mine[2], other[2], other[2] / mine[2], "s", note=note))
    return rows


def _epoch(kind: str, shards: Path, before: int, after: int) -> tuple[int, int, float]:
    """Chunks of an epoch that were seen again, chunks never seen, seconds to the first batch after the change."""
    seen, seconds = (_ours if kind == "ours" else _litdata)(shards, before, after)
    return sum(count - 1 for count in seen.values()), CHUNKS - len(seen), seconds


def _marks(audio) -> Iterator[bytes]:
    """What tells chunks apart: their first samples."""
    for row in np.asarray(audio):
        yield row[:16].tobytes()


def _ours(shards: Path, before: int, after: int) -> tuple[Counter, float]:
    from shards import BatchStream, Cursor, Split

    seen: Counter[bytes] = Counter()
    cursor, waits = Cursor(), []
    for world, until in ((before, BEFORE), (after, CHUNKS)):
        steps = (until - cursor.consumed) // GLOBAL
        for rank in range(world):
            begin = time.perf_counter()
            with BatchStream(Split.open(shards, "train"), GLOBAL, 0, rank, world, cursor) as stream:
                for step in range(steps):
                    batch = next(stream)
                    if step == 0 and until == CHUNKS:
                        waits.append(time.perf_counter() - begin)
                    seen.update(_marks(batch.audio))
                end = batch.next_cursor
        cursor = end
    return seen, median(waits)


def _litdata(shards: Path, before: int, after: int) -> tuple[Counter, float]:
    try:
        from litdata.streaming import StreamingDataLoader, StreamingDataset
        from litdata.streaming.item_loader import TokensLoader
        from litdata.utilities.env import _DistributedEnv
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed") from None
    from benchmarks.speed.readers.litdata import _place, prepare
    from benchmarks.speed.support.data import SHAPE

    prepare(shards, ("tokens",))

    def loader(rank: int, world: int) -> StreamingDataLoader:
        # The number of processes is read where data set and loader are made.
        _DistributedEnv.detect = classmethod(lambda *_: _DistributedEnv(world, rank, 1))
        items = TokensLoader(block_size=SHAPE.samples)
        data = StreamingDataset(str(_place(shards, "tokens")), item_loader=items, shuffle=True, seed=0, drop_last=True)
        return StreamingDataLoader(data, batch_size=BATCH, num_workers=0, drop_last=True)

    seen: Counter[bytes] = Counter()
    state, waits = None, []
    for rank in range(before):
        one = loader(rank, before)
        batches = iter(one)
        for _ in range(BEFORE // before // BATCH):
            seen.update(_marks(next(batches)))
        state = state or one.state_dict()
    for rank in range(after):
        begin = time.perf_counter()
        one = loader(rank, after)
        one.load_state_dict(state)
        for number, batch in enumerate(one):
            if number == 0:
                waits.append(time.perf_counter() - begin)
            seen.update(_marks(batch))
    return seen, median(waits)
