"""One clear line when a mapped shard becomes shorter, instead of a bare "Bus error".

The kernel sends SIGBUS to a process that touches a page behind the end of a mapped file. Nothing can be given to
the code that waits for the bytes, so the process ends; this says why.
"""

import ctypes
import faulthandler
import os
import signal
from contextlib import suppress
from pathlib import Path

_watched: dict[int, list[tuple[Path, int]]] = {}  # by where they are mapped
_installed: list = []  # the callback must live as long as the process
_SA_SIGINFO = 4
_ADDRESS = 16  # where siginfo_t has si_addr, on 64 bits
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Action(ctypes.Structure):
    """glibc's struct sigaction."""

    _fields_ = (
        ("handler", _HANDLER),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def watch(place: int, files: list[tuple[Path, int]]) -> None:
    """From now on a bus error ends the process with a line that names the file that is shorter than it was.

    Args:
        place: The address where the files are mapped, for ``forget``.
        files: Paths and the bytes that each must have.
    """
    _watched[place] = files
    if not _installed and signal.getsignal(signal.SIGBUS) == signal.SIG_DFL:
        # Python's own handlers run later, in the main thread; this one must run at once, where it happened.
        action = _Action(_HANDLER(_report_and_exit), flags=_SA_SIGINFO)
        _installed.append(action)
        ctypes.CDLL(None).sigaction(int(signal.SIGBUS), ctypes.byref(action), None)


def forget(place: int) -> None:
    """The files are no longer mapped there."""
    _watched.pop(place, None)


def _report_and_exit(_number: int, info: int, _context: int) -> None:
    what = _shorter_shard()
    if not what:
        address = ctypes.c_uint64.from_address(info + _ADDRESS).value
        what = f"bus error at address {address:#x}: a fault of a library or of the machine"
        if name := _file_mapped_at(address):
            what = f"{name} can no longer be read: check the disk that holds it, and what writes there"
    os.write(2, f"error: {what}\n".encode())
    if not _shorter_shard():
        faulthandler.dump_traceback(2)  # the file is unknown here
    os._exit(1)


def _shorter_shard() -> str:
    """Which shard it was; empty when all are as long as they should be."""
    for path, size in [file for files in _watched.values() for file in files]:
        try:
            found = path.stat().st_size
        except OSError as error:
            return f"shard {path} can no longer be read ({error.strerror}): check its disk"
        if found < size:
            return (
                f"shard {path} has become shorter while it was read, {found} bytes instead of {size}: copy it "
                "again, and do not write to shards that a run reads"
            )
    return ""


def _file_mapped_at(address: int) -> str:
    """The name of the file that is mapped at an address; empty where there is none."""
    with suppress(OSError, ValueError), open("/proc/self/maps") as maps:
        for line in maps:
            places, *_, name = [*line.split(maxsplit=5), ""][:6]
            begin, end = (int(place, 16) for place in places.split("-"))
            if begin <= address < end:
                return name.strip()
    return ""
