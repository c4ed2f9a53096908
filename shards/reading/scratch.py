"""Records from a copy on the node's own disk, which fills while it is read."""

from pathlib import Path

import numpy as np

from shards.chunk import ChunkFormat
from shards.reading.records import Records


class ScratchRecords:
    """Records of ``source`` through a copy in ``folder`` that all processes of the node share.

    The copy is a sparse file ``<fingerprint>.records`` and a map ``<fingerprint>.present`` with one byte a block of
    64 records. What is there is read from it, the rest from the source; one process of the node copies the
    missing blocks in order, until all are there or ``limit_bytes`` are used. Both files stay for the next
    attempt. Use it as a context manager, or call ``close``, which does not close the source.

    Raises DataError when the folder cannot be written. A disk that is full, or fails, ends the copying with one
    warning, and reading goes on from the source.
    """

    blocks: int  # in the split

    def __init__(
        self,
        source: Records,
        folder: Path,
        fingerprint: str,
        count: int,
        shape: ChunkFormat,
        limit_bytes: int = 0,
        block: int = 64,
        copiers: int = 2,
        copy: bool = True,
    ):
        """Open or make the copy, and begin to fill it.

        ``fingerprint`` is the split's, ``count`` its records. ``limit_bytes`` of 0 takes the disk's free space
        but 5 percent of its size. ``copiers`` is the number of large reads that are under way in the background;
        with ``copy`` off nothing is copied in the background, and only what is read anyway is kept.
        """
        raise NotImplementedError

    @property
    def present(self) -> int:
        """Blocks that are in the copy now."""
        raise NotImplementedError

    def read(self, first: int, out: np.ndarray) -> None:
        """Read the records from ``first`` on into uint8 [n, stride], present or not."""
        raise NotImplementedError

    def close(self) -> None:
        """End the copying and close the files, which stay for the next attempt."""
        raise NotImplementedError
