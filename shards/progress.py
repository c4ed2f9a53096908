"""Progress of long work: a bar on a terminal, a plain line now and then in a log file. On stderr."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0
FIRST_LINE_S = 1.0  # the first line comes earlier: it says what is going on
WINDOW_S = 60.0  # the speed is that of the last minute: work that was taken over is quick


@contextmanager
def progress(
    title: str, total: float, describe: Callable[[float, float, float], str] | None = None
) -> Iterator[Callable[[float], None]]:
    """A function to call with the amount done so far, in the units of ``total``.

    ``describe`` makes words of the amount done, the total and the amount a second; without it there is none.
    """
    speed = _Speed()
    words = describe or (lambda done, total, rate: "")
    if not sys.stderr.isatty():
        yield _lines(title, total, speed, words)
        return
    text = TextColumn("{task.fields[words]}")
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), text, TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, words="")
        yield lambda done: bar.update(task, completed=done, words=words(done, total, speed.at(done)))


def audio_speed(done: float, total: float, rate: float) -> str:
    """Words for seconds of audio: ``3.2 of 41.0 h, 812 x real time``."""
    return f"{done / 3600:.1f} of {total / 3600:.1f} h of audio, {rate:,.0f} x real time"


class _Speed:
    """The amount done a second, over the last minute."""

    def __init__(self) -> None:
        self._seen = deque([(time.monotonic(), 0.0)])

    def at(self, done: float) -> float:
        now = time.monotonic()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] < now - WINDOW_S:
            self._seen.popleft()
        begin, before = self._seen[0]
        return max(done - before, 0.0) / max(now - begin, 1e-9)


def _lines(title: str, total: float, speed: _Speed, words: Callable[[float, float, float], str]):
    due = time.monotonic() + FIRST_LINE_S

    def update(done: float) -> None:
        nonlocal due
        rate = speed.at(done)
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_EVERY_S
            parts = [f"{100 * done / max(total, 1e-9):.0f} %", words(done, total, rate), _left(total - done, rate)]
            print(f"{title}: {', '.join(filter(None, parts))}", file=sys.stderr, flush=True)

    return update


def _left(amount: float, rate: float) -> str:
    """An estimate in words; empty when there is none yet."""
    if rate <= 0:
        return ""
    minutes, seconds = divmod(round(max(amount, 0.0) / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d} left"
