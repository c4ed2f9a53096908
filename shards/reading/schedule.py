"""Which chunks each step takes: pure arithmetic over epochs, ranks and a place to resume from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from shards.reading.order import EpochOrder, Window

PIECE = 8192  # positions computed together: a tenth of the time of one batch by one


@dataclass(frozen=True)
class Cursor:
    """Where training stands in the data: all there is to save."""

    epoch: int = 0
    consumed: int = 0  # chunks of this epoch, over all ranks


@dataclass(frozen=True)
class Step:
    """One rank's share of a step, before it is read."""

    rows: np.ndarray  # int64 [n], which rows of the global batch
    chunks: np.ndarray  # int64 [n]
    cursor: Cursor  # before this step
    next_cursor: Cursor


@dataclass(frozen=True)
class Schedule:
    """The endless steps of one rank over a split of ``count`` chunks.

    A step takes the next ``batch`` positions of the epoch; rank r of ``world`` gets the positions p with
    ``p % world == r``, so ranks may differ by a row. What is left at the end of an epoch, less than a batch, is
    dropped: other chunks each time.
    """

    count: int
    batch: int
    seed: int
    rank: int = 0
    world: int = 1
    order: Callable[[int, int, int], EpochOrder] = EpochOrder

    def steps(self, cursor: Cursor = Cursor()) -> Iterator[Step]:
        """All steps from a cursor on."""
        piece = 1  # the first batch is not to wait for the others
        while True:
            cursor = self._entered(cursor)
            order = self.order(self.count, self.seed, cursor.epoch)
            left = steps_left(self.count, self.batch, cursor)
            while left:
                taken = min(piece, left)
                piece = max(1, PIECE * self.world // self.batch)
                yield from self._steps(order, cursor, taken)
                cursor = Cursor(cursor.epoch, cursor.consumed + taken * self.batch)
                left -= taken

    def windows(self, cursor: Cursor = Cursor()) -> Iterator[tuple[int, Window]]:
        """Epochs and the windows of blocks that this rank's steps need, in the order of their first use."""
        while True:
            cursor = self._entered(cursor)
            end = cursor.consumed + steps_left(self.count, self.batch, cursor) * self.batch
            order = self.order(self.count, self.seed, cursor.epoch)
            for window in order.windows(cursor.consumed, self.rank, self.world):
                if window.first < end:
                    yield cursor.epoch, window
            cursor = Cursor(cursor.epoch + 1)

    def after(self, cursor: Cursor, steps: int) -> Cursor:
        """The cursor some steps later."""
        while True:
            cursor = self._entered(cursor)
            left = steps_left(self.count, self.batch, cursor)
            if steps < left or steps == 0:
                return Cursor(cursor.epoch, cursor.consumed + steps * self.batch)
            if not cursor.consumed:  # many epochs at once
                cursor, steps = Cursor(cursor.epoch + steps // left), steps % left
            else:
                cursor, steps = Cursor(cursor.epoch + 1), steps - left

    def _entered(self, cursor: Cursor) -> Cursor:
        """The same, or the beginning of the next epoch when this one has no whole step left."""
        return cursor if steps_left(self.count, self.batch, cursor) else Cursor(cursor.epoch + 1)

    def _steps(self, order: EpochOrder, cursor: Cursor, taken: int) -> Iterator[Step]:
        first = cursor.consumed + (self.rank - cursor.consumed) % self.world
        positions = np.arange(first, cursor.consumed + taken * self.batch, self.world)
        chunks = order.at(positions)
        step, rows = np.divmod(positions - cursor.consumed, self.batch)
        bounds = np.searchsorted(step, np.arange(taken + 1))
        for k in range(taken):
            here = slice(bounds[k], bounds[k + 1])
            begin = cursor.consumed + k * self.batch
            before, after = Cursor(cursor.epoch, begin), Cursor(cursor.epoch, begin + self.batch)
            yield Step(rows[here], chunks[here], before, after)


def steps_left(count: int, batch: int, cursor: Cursor) -> int:
    """Whole steps of ``batch`` chunks left in the cursor's epoch of ``count`` chunks."""
    return max(0, count - cursor.consumed) // batch
