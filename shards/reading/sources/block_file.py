"""Blocks of records in a sparse file that the processes of a node share, and which of them are there."""

import contextlib
import errno
import fcntl
import os
import threading
from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.reading.sources.local import open_for_reading, read_fully

SPARE = 0.05  # of the disk's size, left free for others


class NoRoomError(Exception):
    """The limit is reached, or the disk is nearly full."""


class BlockFile:
    """``count`` records of ``stride`` bytes in blocks of ``block``, any of which may be missing.

    ``<name>.records`` holds record i at ``i * stride``; ``<name>.present`` has a byte a block, set once the block
    has been written. A crash of a process keeps that order; after a power loss a block may be marked and yet be
    empty, so who reads must check the records. Any number of threads and processes may use the files.

    Raises DataError from the constructor when the folder cannot be written.
    """

    def __init__(
        self, folder: Path, name: str, count: int, stride: int, block: int, limit_bytes: int = 0, direct: bool = False
    ):
        self.records_path = folder / f"{name}.records"
        self._stride, self._block, self._limit = stride, block, limit_bytes
        self._lock = threading.Lock()
        self._users, self._closed = 0, False
        self.blocks = -(-count // block)
        self._final: np.ndarray | None = None  # the marks, once the files are closed
        opened: list[int] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path, size in ((self.records_path, count * stride), (folder / f"{name}.present", self.blocks)):
                opened.append(_open(path, size))
            opened.append(open_for_reading(self.records_path, direct))
            self._records, self._marks, self._reading = self._handles = opened
        except OSError as error:
            for handle in opened:
                os.close(handle)
            raise DataError(
                f"the scratch folder {folder} cannot be written ({error.strerror}): give another one, "
                "or none (--data.scratch '')"
            ) from None

    def present(self, first: int = 0, end: int | None = None) -> np.ndarray:
        """Which blocks from `first` to `end` are there now, bool [n]; they arrive from any process.

        They are read, not mapped: where a file becomes shorter, or a tmpfs has no page left, a mapping ends the
        process with SIGBUS. A mark that cannot be read counts as missing.
        """
        with self._lock:
            return self._read_marks(first, end) if self._final is None else self._final[first:end].copy()

    def enter(self) -> bool:
        """Keep the files open until ``leave``; False when they are closed already."""
        with self._lock:
            self._users += not self._closed
            return not self._closed

    def leave(self) -> None:
        """The end of what ``enter`` began."""
        with self._lock:
            self._users -= 1
            self._close_when_idle()

    def close(self) -> None:
        """Close the files when their last user has left."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._close_when_idle()

    def load(self, first: int, out: np.ndarray) -> bool:
        """Read records that should be there into uint8 [n, stride]; False when the disk cannot."""
        for handle in (self._reading, self._records):  # where O_DIRECT is refused, through the page cache
            try:
                return read_fully(handle, first * self._stride, out) == out.nbytes
            except OSError:
                continue
        return False

    def store(self, block: int, records: np.ndarray) -> None:
        """Write a block, uint8 [n, stride], and mark it. Raises NoRoomError, and OSError when the disk fails."""
        if not self.present(block, block + 1)[0]:
            self._check_room(records.nbytes)
        view, offset = records.data.cast("B"), block * self._block * self._stride
        while len(view):
            done = os.pwrite(self._records, view, offset)
            view, offset = view[done:], offset + done
        os.pwrite(self._marks, b"\1", block)

    def claim(self) -> bool:
        """Become the one process that copies, until it closes the files or dies; False while another one is."""
        try:
            fcntl.flock(self._marks, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: two that copy are a waste, but no mistake
            return True
        return True

    def _check_room(self, size: int) -> None:
        if self._limit and (np.count_nonzero(self.present()) + 1) * self._block * self._stride > self._limit:
            raise NoRoomError
        disk = os.fstatvfs(self._records)
        if disk.f_bavail * disk.f_frsize - size < SPARE * disk.f_blocks * disk.f_frsize:
            raise NoRoomError

    def _close_when_idle(self) -> None:
        if self._closed and not self._users and self._final is None:
            self._final = self._read_marks()
            for handle in self._handles:
                os.close(handle)

    def _read_marks(self, first: int = 0, end: int | None = None) -> np.ndarray:
        end = self.blocks if end is None else min(end, self.blocks)
        marks = np.zeros(max(0, end - first), np.uint8)
        with contextlib.suppress(OSError):
            read_fully(self._marks, first, marks)
        return marks != 0


def _open(path: Path, size: int) -> int:
    """A file of ``size`` bytes, made when it is missing, that is ours and no link."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(handle)
        if status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"{path.name} there belongs to another user")
        if status.st_size > size:
            raise OSError(errno.EFBIG, f"{path.name} there is not of this data, delete it")
        if status.st_size < size:
            os.ftruncate(handle, size)
    except BaseException:
        os.close(handle)
        raise
    return handle
