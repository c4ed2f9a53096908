"""Codes the codes of a VQ-VAE: each codebook has a table that starts at the codes' use in training and adapts.

All is integer arithmetic. The use in training comes from the model's file, where it has the same bits on every machine,
and becomes whole numbers by operations that IEEE 754 rounds in one way only.
"""

import numpy as np

from audiovae.coding.range_coder import Decoder, Intervals

PRECISION = 24
# Counts: the sum of a table at its start, for each of its codes, and the weight of a coded code.
START, STEP = 64, 16
# Values that are summed up anew at once; larger tables are renewed less often.
AT_ONCE = 1 << 14


def first_counts(use: np.ndarray) -> np.ndarray:
    """Counts before anything was coded: [books, size] int64, from the use of the codes in training.

    Args:
        use: Floats >= 0 of any scale, [books, turns, size]: counts of several tables that take turns in one book.
    """
    size = use.shape[2]
    use = np.where(np.isfinite(use) & (use > 0), use, 0.0).astype(np.float64)
    # Rounded to whole numbers before they are added up, so that the order of the sum does not matter.
    most = use.max((1, 2), keepdims=True)
    whole = np.floor(use / np.where(most > 0, most, 1.0) * (1 << 32)).astype(np.int64).sum(1)
    total = np.maximum(whole.sum(1, keepdims=True) >> 20, 1)
    return 1 + START * size * (whole >> 10) // np.maximum(total << 10, 1)


class Tables:
    """The state that encoder and decoder share: counts [books, size] and the edges of the intervals."""

    def __init__(self, use: np.ndarray) -> None:
        self.counts = first_counts(use)
        self.books, self.size = self.counts.shape
        self.every = max(1, self.counts.size // AT_ONCE)
        self.frames = 0
        self.edges = np.zeros((self.books, self.size + 1), np.int64)
        self._renew()

    def _renew(self) -> None:
        room = (1 << PRECISION) - self.size
        widths = 1 + self.counts * room // self.counts.sum(1, keepdims=True)
        np.cumsum(widths, axis=1, out=self.edges[:, 1:])
        self.edges[:, -1] = 1 << PRECISION

    def learn(self, codes: np.ndarray) -> None:
        """Updates the tables with a coded frame: [books]."""
        self.counts[np.arange(self.books), codes] += STEP
        self.frames += 1
        if self.frames % self.every == 0:
            self._renew()


def intervals_of(codes: np.ndarray, use: np.ndarray) -> Intervals:
    """The intervals for `range_coder.encode`: codes [books, frames] int64 and their use in training, see above."""
    tables = Tables(use)
    rows = np.arange(tables.books)
    found = Intervals()
    for frame in codes.T:
        starts = tables.edges[rows, frame]
        widths = tables.edges[rows, frame + 1] - starts
        for start, width in zip(starts.tolist(), widths.tolist(), strict=True):
            found.append(start, width, PRECISION)
        tables.learn(frame)
    return found


def read(decoder: Decoder, use: np.ndarray, frames: int) -> np.ndarray:
    """The codes [books, frames] int32 whose intervals are next in a decoder, four bytes of memory each.

    Raises:
        DamagedError: if there are fewer.
        MemoryError: if there is no room for all.
    """
    tables = Tables(use)
    # Each code of a table has a width of 1 or more.
    decoder.check_room(tables.books * frames, (1 << PRECISION) - (tables.size - 1), PRECISION)
    # The system gives memory to the rows that are written: there may be fewer.
    codes = np.empty((frames, tables.books), np.int32)
    for frame in codes:
        for book, edges in enumerate(tables.edges):
            slot = decoder.peek(PRECISION)
            found = int(np.searchsorted(edges, slot, side="right")) - 1
            decoder.drop(int(edges[found]), int(edges[found + 1] - edges[found]), slot, PRECISION)
            frame[book] = found
        tables.learn(frame)
    return codes.T
