"""Where the records of a split come from: any place that can give a run of them."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np


class Records(Protocol):
    """The records of a split, numbered through its shards. Many threads may read at once."""

    def read(self, first: int, out: np.ndarray) -> None:
        """Read the records from ``first`` on into uint8 [n, stride].

        ``out`` is C-contiguous, and begins at a memory page. Raises DataError naming the shard and the remedy.
        """

    def close(self) -> None:
        """Let go of files, connections and threads."""


def runs(ends: np.ndarray, first: int, count: int) -> Iterator[tuple[int, int, slice]]:
    """Divides ``count`` records from ``first`` on among parts that are numbered through, such as shards.

    ``ends`` are the numbers behind the last record of each part, int64. Yields the part, its first record that is
    wanted, and which of the ``count`` records come from it.
    """
    done = 0
    while done < count:
        part = int(np.searchsorted(ends, first + done, side="right"))
        begin = int(ends[part - 1]) if part else 0
        taken = min(count - done, int(ends[part]) - first - done)
        yield part, first + done - begin, slice(done, done + taken)
        done += taken
