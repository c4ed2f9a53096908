"""Records of shards on a file system, read with large reads around the page cache where that is allowed."""

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from shards.chunk import ChunkFormat
from shards.errors import DataError
from shards.files import open_regular
from shards.manifest import Shard
from shards.reading.sources.records import runs

OPEN_FILES = 256  # kept open, far below the usual limit of 1,024
REFUSED = (errno.EINVAL, errno.EOPNOTSUPP)


def read_fully(handle: int, offset: int, out: np.ndarray) -> int:
    """Fill ``out``, uint8 C-contiguous, from ``offset`` on; returns the bytes read, fewer only at the file's end."""
    view, done = out.data.cast("B"), 0
    while done < len(view):
        count = os.preadv(handle, [view[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def open_for_reading(path: Path, direct: bool) -> int:
    """A file descriptor, with O_DIRECT where ``direct`` asks for it and the file system has it."""
    if direct:
        try:
            return open_regular(path, os.O_RDONLY | os.O_DIRECT, follow_links=True)
        except OSError as error:
            if error.errno not in REFUSED:
                raise
    return open_regular(path, follow_links=True)


class LocalRecords:
    """Records of the shards of a split in a folder.

    Args:
        folder: Where the shards are.
        rows: The shards of the split, in order.
        shape: Sizes of their records.
        direct: Read around the page cache: for data that does not fit into memory.
    """

    def __init__(self, folder: Path, rows: list[Shard], shape: ChunkFormat, direct: bool = True):
        self._paths = [folder / row.file for row in rows]
        self._ends = np.cumsum([row.chunks for row in rows], dtype=np.int64)
        self._stride, self._direct = shape.stride, direct
        self._lock = threading.Lock()
        self._handles: OrderedDict[int, _Handle] = OrderedDict()
        self._closed = False

    def read(self, first: int, out: np.ndarray) -> None:
        """Read the records from ``first`` on into uint8 [n, stride], C-contiguous, beginning at a page."""
        for shard, begin, here in runs(self._ends, first, len(out)):
            self._read_shard(shard, begin * self._stride, out[here])

    def close(self) -> None:
        """Close the files; reads that are under way end first."""
        with self._lock:
            self._closed = True
            idle = [key for key, handle in self._handles.items() if not handle.users]
            for key in idle:
                os.close(self._handles.pop(key).number)

    def _read_shard(self, shard: int, offset: int, out: np.ndarray) -> None:
        path = self._paths[shard]
        try:
            with self._open(shard) as handle:
                try:
                    count = read_fully(handle.number, offset, out)
                except OSError as error:
                    if error.errno not in REFUSED or not handle.direct:
                        raise
                    # The file system took the flag and refuses the read: from now on through the page cache.
                    self._direct = False
                    buffered = open_for_reading(path, direct=False)
                    try:
                        count = read_fully(buffered, offset, out)
                    finally:
                        os.close(buffered)
        except OSError as error:
            raise DataError(
                f"shard {path} cannot be read ({error.strerror}): check its disk and its permissions, "
                "then start again: the run resumes from its last checkpoint"
            ) from None
        if count < out.nbytes:
            raise DataError(
                f"shard {path} ends at byte {offset + count}: it became shorter while it was read. "
                "Copy it again, and do not write to shards that a run reads"
            )

    @contextmanager
    def _open(self, shard: int) -> Iterator["_Handle"]:
        with self._lock:
            handle = self._handles.get(shard)
            if handle is None:
                number = open_for_reading(self._paths[shard], self._direct)
                handle = self._handles[shard] = _Handle(number, self._direct)
            self._handles.move_to_end(shard)
            handle.users += 1
        try:
            yield handle
        finally:
            with self._lock:
                handle.users -= 1
                surplus = len(self._handles) - (0 if self._closed else OPEN_FILES)
                idle = [key for key, other in self._handles.items() if not other.users] if surplus > 0 else []
                for key in idle[: max(surplus, 0)]:
                    os.close(self._handles.pop(key).number)


class _Handle:
    """An open file and how many threads read from it just now."""

    def __init__(self, number: int, direct: bool):
        self.number, self.direct, self.users = number, direct, 0
