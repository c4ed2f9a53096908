"""Records of several data sets behind one another."""

from collections.abc import Sequence

import numpy as np

from shards.reading.sources.records import Records


class JoinedRecords:
    """Records of several sources, numbered through."""

    def __init__(self, sources: Sequence[Records], counts: Sequence[int]):
        self._sources = [*sources]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def read(self, first: int, out: np.ndarray) -> None:
        """Read the records from ``first`` on into uint8 [n, stride], C-contiguous, beginning at a page."""
        done = 0
        while done < len(out):
            one = int(np.searchsorted(self._ends, first + done, side="right"))
            begin = int(self._ends[one - 1]) if one else 0
            count = min(len(out) - done, int(self._ends[one]) - first - done)
            self._sources[one].read(first + done - begin, out[done : done + count])
            done += count

    def close(self) -> None:
        """Let go of all sources."""
        for source in self._sources:
            source.close()
