"""Endless batches over the epochs of a split, the same for any number of ranks, from any cursor on."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shards.errors import DataError
from shards.reading.order import EpochOrder
from shards.reading.split import Split

POLL_S = 0.5


@dataclass(frozen=True)
class Cursor:
    """Where training stands in the data: all there is to save."""

    epoch: int = 0
    consumed: int = 0  # chunks of this epoch, over all ranks


@dataclass(frozen=True)
class Batch:
    """One rank's share of a step."""

    audio: Tensor  # int16 [n, samples]
    rows: Tensor  # int64 [n], which rows of the global batch these are
    chunks: np.ndarray  # int64 [n], chunk numbers in the split
    cursor: Cursor  # before this step
    next_cursor: Cursor  # after it: what to save once the step is done


def steps_left(count: int, batch: int, cursor: Cursor) -> int:
    """Whole steps of ``batch`` chunks left in the cursor's epoch of ``count`` chunks."""
    return max(0, count - cursor.consumed) // batch


class BatchStream:
    """Iterates for ever over the global batches of a split, giving this rank's rows of each.

    A step takes the next ``batch`` positions of the epoch; rank r of ``world`` gets the positions p with
    ``p % world == r``, so ranks may differ by a row. What is left at the end of an epoch, less than a
    batch, is dropped: other chunks each time. One thread reads ahead. Use it as a context manager.

    Raises DataError for impossible sizes, and from the iterator for damaged or unreachable data.
    """

    def __init__(
        self,
        split: Split,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        cursor: Cursor = Cursor(),
        prefetch: int = 3,
        timeout_s: float = 300.0,
        pin_memory: bool = False,
    ):
        if not 0 <= rank < world:
            raise DataError(f"rank {rank} does not exist among {world} processes")
        if batch < world:
            raise DataError(f"a batch of {batch} leaves some of {world} processes without a row: raise the batch size")
        if batch > len(split):
            raise DataError(
                f"split {split.name!r} has only {len(split)} chunks: lower the batch size from {batch}, "
                "or build from more recordings"
            )
        if cursor.epoch < 0 or cursor.consumed < 0:
            raise DataError(f"{cursor} is no place in an epoch: resume elsewhere")
        self._split, self._batch, self._seed = split, batch, seed
        self._rank, self._world, self._timeout = rank, world, timeout_s
        self._pin = pin_memory
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(prefetch)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(cursor,), name="batches", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._stop.is_set():
            raise StopIteration
        try:
            item = self._queue.get(timeout=self._timeout)
        except queue.Empty:
            self._stop.set()
            raise DataError(
                f"no batch of split {self._split.name!r} came in {self._timeout:g} s: is its disk there?"
            ) from None
        if isinstance(item, BaseException):
            self.close()
            raise item
        return item

    def close(self) -> None:
        """Stop reading ahead and wait for the thread, but not for ever: a dead disk may hold it."""
        self._stop.set()
        self._thread.join(10)

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill(self, cursor: Cursor) -> None:
        try:
            for batch in self._batches(cursor):
                if not self._put(batch):
                    return
        except BaseException as error:  # whatever it is, the consumer raises it
            self._put(error)

    def _put(self, item: Batch | BaseException) -> bool:
        """Wait for room in the queue; False when the stream was closed meanwhile."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def _batches(self, cursor: Cursor) -> Iterator[Batch]:
        count = len(self._split)
        while True:
            if steps_left(count, self._batch, cursor) == 0:
                cursor = Cursor(cursor.epoch + 1)
            order = EpochOrder(count, self._seed, cursor.epoch)
            for _ in range(steps_left(count, self._batch, cursor)):
                following = Cursor(cursor.epoch, cursor.consumed + self._batch)
                rows = np.arange((self._rank - cursor.consumed) % self._world, self._batch, self._world)
                chunks = order.at(cursor.consumed + rows)
                # Pinned memory comes from torch's cache, which waits for copies still under way.
                audio = torch.empty(len(rows), self._split.samples, dtype=torch.int16, pin_memory=self._pin)
                self._split.read(chunks, audio)
                places = torch.from_numpy(rows)
                yield Batch(audio, places.pin_memory() if self._pin else places, chunks, cursor, following)
                cursor = following
