"""Shards of a file system as one array in memory: any record is one row, and the page cache holds the bytes."""

import ctypes
import mmap
import os
import threading
import weakref
from pathlib import Path

import numpy as np

from shards.chunk import ChunkFormat
from shards.errors import DataError
from shards.files import open_regular
from shards.manifest import Shard
from shards.reading.sources.sigbus import forget, watch

MAX_SHARDS = 30_000  # a process may have 65,530 mappings
_NO_ACCESS, _NO_RESERVE, _FIXED = 0, 0x4000, 0x10  # of mmap, as Linux has them
_POPULATE_READ = 22  # of madvise

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FAILED = ctypes.c_void_p(-1).value


class MappedShards:
    """The records of a split as ``records``, uint8 [chunks, stride], read-only.

    Records are whole pages, so the shards are mapped one behind the other into one range of addresses, each
    without the 1,024 bytes that end it. Processes of a node share the memory. No file stays open.
    """

    def __init__(self, paths: list[Path], rows: list[Shard], shape: ChunkFormat):
        self._sizes = [row.chunks * shape.stride for row in rows]
        self._size = sum(self._sizes)
        base = _map(None, self._size, _NO_ACCESS, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE, -1)
        area = (ctypes.c_uint8 * self._size).from_address(base)
        # Unmapped when the last array that looks into it is gone, never under the hands of a reader.
        weakref.finalize(area, _unmap, base, self._size).atexit = False
        self._base = base
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        for path, size in zip(paths, self._sizes, strict=True):
            try:
                handle = open_regular(path, follow_links=True)
                try:
                    _map(base, size, mmap.PROT_READ, mmap.MAP_SHARED | _FIXED, handle)
                finally:
                    os.close(handle)
            except OSError as error:
                raise DataError(f"shard {path} cannot be mapped ({error.strerror}): copy it again") from None
            base += size
        self.records = np.frombuffer(memoryview(area), np.uint8).reshape(-1, shape.stride)
        self.records.flags.writeable = False
        watch(self._base, [(path, row.bytes) for path, row in zip(paths, rows, strict=True)])

    def prefault(self) -> None:
        """Bring all pages into memory in the background, so that readers do not wait for each."""
        if self._thread:
            return
        self._thread = threading.Thread(target=self._populate, name="prefault", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and let go of the records."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        del self.records

    def _populate(self) -> None:
        place = self._base
        for size in self._sizes:
            if self._stop.is_set():
                return
            if _libc.madvise(place, size, _POPULATE_READ):  # kernels before 5.14 do not know it
                _libc.madvise(place, size, mmap.MADV_WILLNEED)
            place += size


def _unmap(base: int, size: int) -> None:
    forget(base)
    _libc.munmap(base, size)


def _map(place: int | None, size: int, protection: int, flags: int, handle: int) -> int:
    address = _libc.mmap(place, size, protection, flags, handle, 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return address
