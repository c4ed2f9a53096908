"""Where the records of a split come from: any place that can give a run of them."""

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
