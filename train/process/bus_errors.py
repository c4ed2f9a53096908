"""Notes a bus error before the process ends.

The kernel sends SIGBUS to a process that touches a page behind the end of a mapped file, such as a shard that was cut.
The reader's handler prints which file it was and ends the process at once, so that no `except` sees the error.
"""

import ctypes
import signal
from collections.abc import Callable
from contextlib import suppress

REASON = "a bus error: a file that was being read became shorter, or its disk failed; the log names it"
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_installed: list["_Action"] = []  # callbacks must live as long as the process


class _Action(ctypes.Structure):
    """struct sigaction of Linux's C libraries on 64 bits."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def note_bus_errors(note: Callable[[str], object]) -> None:
    """From now on a bus error calls `note` with a reason, and then the handler that was there before, if there is one.

    Args:
        note: Called in the thread of the error; its own errors are ignored.
    """
    libc = ctypes.CDLL(None)
    before = _Action()
    libc.sigaction(int(signal.SIGBUS), None, ctypes.byref(before))
    if before.handler in (None, 0, 1):  # the defaults end the process, or do nothing
        return
    continue_with = _HANDLER(before.handler)

    def handle(number: int, info: int, context: int) -> None:
        with suppress(Exception):
            note(REASON)
        continue_with(number, info, context)

    callback = _HANDLER(handle)
    action = _Action(ctypes.cast(callback, ctypes.c_void_p), before.mask, before.flags, before.restorer)
    action.callback = callback
    _installed.append(action)
    libc.sigaction(int(signal.SIGBUS), ctypes.byref(action), None)
