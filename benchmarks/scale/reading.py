"""What the reader asks of a shared file system, by its own arithmetic: nothing is read, all else is the real code.

`Schedule`, `EpochOrder` and `Arena` of the product run for some ranks and for some windows of an epoch. The records
have eight bytes and come from a source that only counts.
"""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from shards.chunk import ChunkFormat
from shards.reading.arena import Arena, arena_slots
from shards.reading.order import EpochOrder
from shards.reading.schedule import Cursor, Schedule
from shards.reading.sources.local import OPEN_FILES

PER_SHARD = 2048
STRIDE = ChunkFormat().stride
TINY = 8  # bytes of a simulated record
NODE = 8  # ranks
POSITIONS = 1 << 18  # of the epoch, over which the rate is counted: eight windows of every lane
SETTLED_S = 0.05
MIB = 1 << 20
NFS_READ, LUSTRE_READ = MIB, 4 * MIB  # the usual largest request of their clients
SEED = 0


@dataclass(frozen=True)
class Load:
    """What one rank asked for while the run consumed some chunks.

    Attributes:
        way: "memory", "blocks" or "rows".
        slots: Blocks that the process holds.
        ranks: Ranks that were simulated.
        steps: Steps of each.
        requests: Reads of files by a rank, in the mean.
        bytes: Bytes of these reads.
        opened: Files opened for them, with OPEN_FILES handles kept.
        handles: Files open at the end.
        chunks: Chunks that a rank trained on meanwhile.
    """

    way: str
    slots: int
    ranks: int
    steps: int
    requests: float
    bytes: float
    opened: float
    handles: int
    chunks: float


class Counted:
    """A source of records that reads nothing and counts what the real one would do."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._count = count
        self._open: OrderedDict[int, None] = OrderedDict()
        self.requests = self.records = self.opened = 0

    @property
    def handles(self) -> int:
        """Files that are open now."""
        return len(self._open)

    def read(self, first: int, out: np.ndarray) -> None:
        """Counts a read from each shard that the records lie in."""
        last = min(first + len(out), self._count) - 1
        with self._lock:
            for shard in range(first // PER_SHARD, last // PER_SHARD + 1):
                self.requests += 1
                self.opened += shard not in self._open
                self._open[shard] = None
                self._open.move_to_end(shard)
                if len(self._open) > OPEN_FILES:
                    self._open.popitem(last=False)
            self.records += len(out)

    def close(self) -> None:
        """Nothing is open."""


def simulate(count: int, world: int, batch: int, memory: int, ranks: int) -> Load:
    """What a rank asks for, from the middle of an epoch of `count` chunks.

    Args:
        count: Chunks of the split.
        world: Processes.
        batch: Chunks of a step of one process.
        memory: Bytes for data on a node.
        ranks: How many ranks to simulate, evenly spread.
    """
    if count * STRIDE <= memory:
        return Load("memory", 0, world, 0, 0.0, 0.0, 0.0, 0, 0.0)
    whole = batch * world
    order = EpochOrder(count, SEED, 0)
    slots = arena_slots(order, whole, world, memory // min(world, NODE) // (order.block * STRIDE))
    chosen = sorted({rank * world // ranks for rank in range(ranks)})
    steps = max(2, min(POSITIONS, count // 4) // whole)
    begin = Cursor(0, count // 2 // whole * whole)
    found = [_one(count, Schedule(count, whole, SEED, rank, world), begin, steps, slots) for rank in chosen]
    requests, records, opened, handles = (float(np.mean(column)) for column in zip(*found, strict=True))
    way = "blocks" if slots else "rows"
    return Load(
        way, slots, len(chosen), steps, requests, records * STRIDE, opened, round(handles), float(steps * batch)
    )


def _one(count: int, schedule: Schedule, begin: Cursor, steps: int, slots: int) -> tuple[int, int, int, int]:
    """Requests, records, opened files and handles of one rank, after what the start needs."""
    source = Counted(count)
    if not slots:
        todo = schedule.steps(begin)
        for _ in range(steps):
            for chunk in next(todo).chunks.tolist():
                source.read(chunk, np.empty((1, TINY), np.uint8))
        return source.requests, source.records, source.opened, source.handles
    block = schedule.order(count, SEED, 0).block
    arena = Arena(source, count, block, TINY, slots, schedule.windows(begin))
    try:
        todo = schedule.steps(begin)
        out = np.empty((-(-schedule.batch // schedule.world), TINY), np.uint8)
        before = (0, 0, 0)
        for number in range(2 * steps):  # the first half fills the area
            step = next(todo)
            arena.gather(step, out[: len(step.chunks)])
            if number == steps - 1:
                before = _settled(source)
        after = _settled(source)
    finally:
        arena.close()
    requests, records, opened = np.subtract(after, before).tolist()
    return requests, records, opened, source.handles


def _settled(source: Counted) -> tuple[int, int, int]:
    """The counts when the reader has no room to read further ahead."""
    seen = -1
    while seen != source.requests:
        seen = source.requests
        time.sleep(SETTLED_S)
    return source.requests, source.records, source.opened
