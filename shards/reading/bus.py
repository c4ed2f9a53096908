"""One clear line when a mapped shard becomes shorter, instead of a bare "Bus error".

The kernel sends SIGBUS to a process that touches a page behind the end of a mapped file. Nothing can be given to
the code that waits for the bytes, so the process ends; this says why.
"""

import ctypes
import os
import signal
from pathlib import Path

_watched: dict[int, list[tuple[Path, int]]] = {}  # by where they are mapped
_installed: list = []  # the callback must live as long as the process


def watch(place: int, files: list[tuple[Path, int]]) -> None:
    """From now on a bus error ends the process with a line that names the file that is shorter than it was.

    Args:
        place: The address where the files are mapped, for ``forget``.
        files: Paths and the bytes that each must have.
    """
    _watched[place] = files
    if not _installed and signal.getsignal(signal.SIGBUS) == signal.SIG_DFL:
        # Python's own handlers run later, in the main thread; this one must run at once, where it happened.
        callback = ctypes.CFUNCTYPE(None, ctypes.c_int)(_tell_and_leave)
        _installed.append(callback)
        ctypes.CDLL(None).signal(int(signal.SIGBUS), callback)


def forget(place: int) -> None:
    """The files are no longer mapped there."""
    _watched.pop(place, None)


def _tell_and_leave(_number: int) -> None:
    what = "a mapped file can no longer be read: check the disk that holds the shards"
    for path, size in [file for files in _watched.values() for file in files]:
        try:
            found = path.stat().st_size
        except OSError as error:
            what = f"shard {path} can no longer be read ({error.strerror}): check its disk"
            break
        if found < size:
            what = (
                f"shard {path} has become shorter while it was read, {found} bytes instead of {size}: copy it "
                "again, and do not write to shards that a run reads"
            )
            break
    os.write(2, f"error: {what}\n".encode())
    os._exit(1)
