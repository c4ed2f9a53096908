"""Other programs on the machine: wait a while for them to leave, and note how much they took."""

import time
from statistics import mean

import psutil

LOOK_S = 0.3
LIMIT = 10.0  # percent of all processors

_patience = 0.0
_seen: list[float] = []


def wait_until_quiet(seconds: float) -> None:
    """From now on wait so long in all for other programs; 0 does not look at them."""
    global _patience
    _patience = seconds
    _seen.clear()


def wait() -> None:
    """Wait until others leave the processors alone or patience has run out. Called while we do nothing."""
    global _patience
    if not _patience:
        return
    begin = time.monotonic()
    percent = psutil.cpu_percent(LOOK_S)
    while percent > LIMIT and time.monotonic() - begin < _patience:
        percent = psutil.cpu_percent(LOOK_S)
    # It never becomes 0: the rest of the run goes on looking.
    _patience = max(_patience - (time.monotonic() - begin), 1e-3)
    _seen.append(percent)


def others() -> float | None:
    """Percent of the processors that others took when something of ours began, a mean; None when not looked at."""
    return mean(_seen) if _seen else None
