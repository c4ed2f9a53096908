"""Progress of long work: a bar on a terminal, a plain line now and then in a log file. On stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0


@contextmanager
def progress(title: str, total: float) -> Iterator[Callable[[float], None]]:
    """A function to call with the amount done so far, in the units of ``total``."""
    if not sys.stderr.isatty():
        yield _lines(title, total)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


def _lines(title: str, total: float) -> Callable[[float], None]:
    start = last = time.monotonic()

    def update(done: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            print(
                f"{title}: {100 * done / max(total, 1e-9):.0f} %, {now - start:.0f} s",
                file=sys.stderr,
                flush=True,
            )

    return update
