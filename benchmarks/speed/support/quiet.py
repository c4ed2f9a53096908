"""Waits until other programs on the machine are idle, and records their load."""

import time
from statistics import mean

import psutil

LOOK_S = 0.3
LIMIT = 10.0  # percent of all processors

_patience = 0.0
_seen: list[float] = []


def wait_until_quiet(seconds: float) -> None:
    """Sets the total time to wait for other programs from now on; 0 turns waiting off."""
    global _patience
    _patience = seconds
    _seen.clear()


def wait() -> None:
    """Waits until other programs are idle or the time to wait is used up. Call it while this program is idle."""
    global _patience
    if not _patience:
        return
    begin = time.monotonic()
    percent = psutil.cpu_percent(LOOK_S)
    while percent > LIMIT and time.monotonic() - begin < _patience:
        percent = psutil.cpu_percent(LOOK_S)
    # Never 0, so that the load is still recorded.
    _patience = max(_patience - (time.monotonic() - begin), 1e-3)
    _seen.append(percent)


def others() -> float | None:
    """Mean load by other programs at the start of our measurements, in percent; None if not recorded."""
    return mean(_seen) if _seen else None
