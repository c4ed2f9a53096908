"""Says what a process does instead of training steps, if that takes longer than a moment."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from train.process.output_streams import write_stderr

# Shorter phases print nothing: a log of many short evaluations stays short.
AT_ONCE_S = 0.5


@contextmanager
def phase(what: str, shown: bool = True, tell: Callable[[str], None] = write_stderr) -> Iterator[None]:
    """Prints `what` if the block is not over after AT_ONCE_S seconds.

    Args:
        what: What the process does, such as "measuring held-out chunks".
        shown: Whether this process prints; rank 0 does.
        tell: Prints a line; called in a thread.
    """
    timer = threading.Timer(AT_ONCE_S, tell, [f"{what} ..."])
    timer.daemon = True
    if shown:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
