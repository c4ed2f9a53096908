"""Records of several data sets behind one another."""

from collections.abc import Sequence

import numpy as np

from shards.reading.sources.records import Records, runs


class JoinedRecords:
    """Records of several sources, numbered through."""

    def __init__(self, sources: Sequence[Records], counts: Sequence[int]):
        self._sources = [*sources]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def read(self, first: int, out: np.ndarray) -> None:
        """Read the records from ``first`` on into uint8 [n, stride], C-contiguous, beginning at a page."""
        for source, begin, here in runs(self._ends, first, len(out)):
            self._sources[source].read(begin, out[here])

    def close(self) -> None:
        """Let go of all sources."""
        for source in self._sources:
            source.close()
