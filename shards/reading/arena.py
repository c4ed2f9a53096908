"""Data larger than memory: whole blocks read ahead into a fixed area, and batches gathered from there."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shards.errors import DataError
from shards.reading.order import EpochOrder, Window
from shards.reading.ring import POLL_S
from shards.reading.schedule import Step
from shards.reading.sources.memory import allocate
from shards.reading.sources.records import Records

ALONE = 6  # steps after the start that do not wait for blocks: the ring's and a few
READ_AHEAD = 1.25  # blocks held, relative to what is needed at once
ROW_READS = 16  # single records under way when there is no memory for blocks
THREADS = 4  # large reads under way: what saturates an NVMe disk; network file systems like as many


class RowReader:
    """Records read one by one, some at a time: when there is no room for whole blocks, or no time."""

    def __init__(self, records: Records, threads: int = ROW_READS):
        self._records = records
        self._pool = ThreadPoolExecutor(threads, "rows")
        self._threads, self._stop = threads, False

    def read(self, chunks: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
        """Read chunks, int64 [n], to the rows ``places``, int64 [n], of uint8 [m, stride]."""
        # A job for each thread, not for each record: handing jobs over costs more than a read.
        jobs = [self._pool.submit(self._read_some, chunks, out, places, part) for part in range(self._threads)]
        for job in jobs:
            job.result()

    def gather(self, step: Step, out: np.ndarray) -> None:
        """The records of a step, in its order, into uint8 [n, stride]."""
        self.read(step.chunks, out, np.arange(len(out)))

    def close(self) -> None:
        """End the threads."""
        self._stop = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read_some(self, chunks: np.ndarray, out: np.ndarray, places: np.ndarray, part: int) -> None:
        mine = slice(part, None, self._threads)
        for chunk, place in zip(chunks[mine].tolist(), places[mine].tolist(), strict=True):
            if self._stop:  # what is missing in ``out`` must not pass for damage
                raise DataError("the reader was closed")
            self._records.read(chunk, out[place : place + 1])


class Arena:
    """Gathers steps from blocks that threads read ahead, in the order in which the steps will need them.

    Args:
        records: Where the bytes come from.
        count: Records in all.
        block: Records of a block.
        stride: Bytes of a record.
        slots: Blocks that the area holds.
        windows: Epoch and blocks of what is needed together, by first use.
        threads: Reads under way at a time.
    """

    def __init__(
        self,
        records: Records,
        count: int,
        block: int,
        stride: int,
        slots: int,
        windows: Iterator[tuple[int, Window]],
        threads: int = THREADS,
    ):
        self._records, self._count, self._block = records, count, block
        self._area = allocate(slots * block * stride).reshape(slots * block, stride)
        self._changed = threading.Condition()
        self._free = list(range(slots))
        self._ready = np.zeros(slots, bool)
        # Where a block is, -1 for nowhere. Neighbouring epochs may hold the same block at the same time.
        self._slot_of = np.full((2, -(-count // block)), -1, np.int32)
        self._held: list[tuple[int, Window]] = []
        self._now = (0, 0)  # epoch and position of the step that is being gathered
        self._late = False  # whether blocks are still being read that no step needs any more
        self._failure: BaseException | None = None
        self._stop = False
        self._alone = ALONE  # steps that may still read their own records
        self._pool = ThreadPoolExecutor(threads, "blocks")
        self._single = RowReader(records, threads)
        self._loader = threading.Thread(target=self._load, args=(windows,), name="arena", daemon=True)
        self._loader.start()

    def gather(self, step: Step, out: np.ndarray) -> None:
        """The records of a step, in its order, into uint8 [n, stride]. Steps come in their order."""
        block, row = np.divmod(step.chunks, self._block)
        with self._changed:
            self._release(step)
            slot, there = self._find(step.cursor.epoch, block)
            self._alone -= 1
            while self._alone < 0 and not there.all():
                self._changed.wait(POLL_S)
                # Blocks that the first steps did without may arrive only now. Their slots must become free here: the
                # blocks of this step may find no slot otherwise, and nothing else frees one.
                if self._late:
                    self._release(step)
                slot, there = self._find(step.cursor.epoch, block)
        if there.all():
            np.take(self._area, slot * self._block + row, 0, out, "clip")
            return
        # At the start a step would wait for hundreds of blocks: the first ones read their own records alone. More
        # of them would hold up the blocks.
        places = np.flatnonzero(there)
        out[places] = self._area[slot[places] * self._block + row[places]]
        places = np.flatnonzero(~there)
        self._single.read(step.chunks[places], out, places)

    def close(self) -> None:
        """End the threads; a read that is under way ends first, but is not waited for without end."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        self._single.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._loader.join(10)

    def _find(self, epoch: int, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slots of blocks, and which of them have been read; raises what went wrong."""
        if self._failure:
            raise self._failure
        if self._stop:
            raise DataError("the reader was closed")
        slot = self._slot_of[epoch % 2, block]
        return slot, (slot >= 0) & self._ready[slot]

    def _release(self, step: Step) -> None:
        """Free the blocks that neither this step nor a later one needs; the caller holds the lock."""
        self._now = step.cursor.epoch, step.cursor.consumed
        kept: list[tuple[int, Window]] = []
        self._late = False
        for epoch, window in self._held:
            slots = self._slot_of[epoch % 2, window.blocks]
            past = self._is_past(epoch, window)
            if not past or not self._ready[slots].all():
                self._late |= past
                kept.append((epoch, window))
                continue
            self._slot_of[epoch % 2, window.blocks] = -1
            self._ready[slots] = False
            self._free += slots.tolist()
        if len(kept) < len(self._held) or self._alone > 0:
            self._held = kept
            self._changed.notify_all()

    def _load(self, windows: Iterator[tuple[int, Window]]) -> None:
        try:
            for epoch, window in windows:
                with self._changed:
                    while not self._stop and not self._is_past(epoch, window) and not self._has_room(epoch, window):
                        self._changed.wait(POLL_S)
                    if self._stop:
                        return
                    if self._is_past(epoch, window):  # the first steps did without it
                        continue
                    slots = [self._free.pop() for _ in window.blocks]
                    self._slot_of[epoch % 2, window.blocks] = slots
                    self._held.append((epoch, window))
                    for block, slot in zip(window.blocks.tolist(), slots, strict=True):
                        self._pool.submit(self._read, block, slot)
        except BaseException as error:  # whatever it is, the steps that wait raise it
            self._fail(error)

    def _is_past(self, epoch: int, window: Window) -> bool:
        return (epoch, window.last) < self._now

    def _has_room(self, epoch: int, window: Window) -> bool:
        # Epochs of the same parity share the table of slots.
        return len(self._free) >= len(window.blocks) and all(held >= epoch - 1 for held, _ in self._held)

    def _read(self, block: int, slot: int) -> None:
        if self._stop:
            return
        try:
            first = block * self._block
            begin = slot * self._block
            self._records.read(first, self._area[begin : begin + min(self._block, self._count - first)])
        except BaseException as error:
            self._fail(error)
            return
        with self._changed:
            self._ready[slot] = True
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()


def arena_slots(order: EpochOrder, batch: int, world: int, room: int) -> int:
    """Blocks that a process of ``world`` holds if it has room for ``room``; 0 when it must read record by record."""
    needed = order.resident_blocks(batch, world)
    return min(room, int(needed * READ_AHEAD) + 16) if room >= needed else 0
