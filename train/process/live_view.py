"""The live view of a training on a terminal: a thread of its own draws it and is the only one that waits for it."""

import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

DRAW_EVERY_S = 0.5
WINDOW_S = 60.0  # the speed is that of the last minute, with all that is no training in it
CLOSE_S = 2.0
MAX_LINES = 1000
INDENT = "  "


@dataclass
class RunInfo:
    """What a run's steps amount to.

    Attributes:
        title: Family and name of the run.
        total: Steps of the whole run.
        batch: Chunks in a step.
        chunk_s: Seconds of a chunk.
        epoch: Chunks in an epoch.
        save_every: Steps between saves.
    """

    title: str
    total: int
    batch: int
    chunk_s: float
    epoch: int
    save_every: int


class Progress:
    """Where a run stands. The training sets plain attributes; the view reads them when it draws.

    Attributes:
        step, epochs: Steps and epochs done.
        losses: Newest means of the loss terms, unweighted, and their `total`.
        waiting: Share of the time that training waited for data; None when not known yet.
        doing: What goes on instead of steps; empty while training.
        begun: Step of the newest save that was begun, here or, at first, in an earlier attempt.
    """

    def __init__(self, scale: RunInfo, step: int, written: Callable[[], int]) -> None:
        self.scale, self.step, self.epochs = scale, step, step * scale.batch / scale.epoch
        self.losses: dict[str, float] = {}
        self.waiting: float | None = None
        self.doing = ""
        self.begun, self.begun_at = step, 0.0
        self._written = written
        self._seen = deque([(time.monotonic(), step)])

    def begin_save(self, step: int) -> None:
        """A save has begun."""
        self.begun, self.begun_at = step, time.monotonic()

    def rate(self) -> float:
        """Steps a second over the last minute; the view calls it each time it draws."""
        now = time.monotonic()
        self._seen.append((now, self.step))
        while len(self._seen) > 2 and self._seen[1][0] < now - WINDOW_S:
            self._seen.popleft()
        began, before = self._seen[0]
        return (self.step - before) / max(now - began, 1e-9)

    def saves(self, rate: float) -> str:
        """The last save and the next one in words."""
        words = []
        if self.begun_at and self._written() < self.begun:
            words.append(f"saving step {self.begun}")
        elif self.begun_at:
            words.append(f"saved at step {self.begun}, {clock(time.monotonic() - self.begun_at)} ago")
        elif self.begun:
            words.append(f"went on from step {self.begun}")
        following = min(self.begun + self.scale.save_every, self.scale.total)
        if following > self.step:
            soon = f" in {clock((following - self.step) / rate)}" if rate else ""
            words.append(f"next save at {following}{soon}")
        return ", ".join(words)


def clock(seconds: float) -> str:
    """0:07, 12:34, 3:04:05 or 2 d 3 h."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def drawn(progress: Progress) -> Group:
    """The view: a bar, speed and data, losses, saves."""
    scale, step = progress.scale, progress.step
    rate = progress.rate()
    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=scale.total, completed=step, width=24)
    share = f"{100 * step / scale.total:.1f} %"
    head.add_row(
        Text(scale.title, style="bold"), bar, f"step {step}/{scale.total}", share, f"epoch {progress.epochs:.2f}"
    )
    audio = rate * scale.batch * scale.chunk_s
    speed = [f"{rate:.2f} steps/s, {audio:.3g} h of audio an hour" if rate else "no step yet"]
    if rate and step < scale.total:
        speed.append(f"{clock((scale.total - step) / rate)} left")
    if progress.waiting is not None:
        speed.append(f"{100 * progress.waiting:.1f} % of the time waiting for data")
    if progress.doing:
        speed.append(progress.doing)
    lines = [", ".join(speed)]
    if progress.losses:
        first = {"total": progress.losses.get("total", float("nan"))}
        lines.append("loss " + "  ".join(f"{name} {value:.4g}" for name, value in (first | progress.losses).items()))
    if saves := progress.saves(rate):
        lines.append(saves)
    rows = [Text(INDENT + line, no_wrap=True, overflow="ellipsis") for line in lines]
    return Group(head, *rows)


class Lines(io.TextIOBase):
    """A stream for whoever prints while the view is shown: whole lines go above it.

    Who wants the file itself, as a crash report, gets that of the stream behind it.
    """

    def __init__(self, say: Callable[[str], None], behind: TextIO) -> None:
        self._say, self._behind, self._rest = say, behind, ""

    def fileno(self) -> int:
        """Of the stream behind it."""
        return self._behind.fileno()

    def isatty(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Keeps what is not yet a line."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._say(line)
        return len(text)


class LiveView:
    """Draws a run's progress on the terminal behind stderr, and lines for people above it.

    Whatever prints to stdout or stderr meanwhile goes above it too, if that is the terminal. A terminal that
    is stopped (Ctrl-S), closed or odd stops this thread and nothing else.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._end = threading.Event()
        # A stream of its own: whoever flushes sys.stderr must not wait for a write that hangs in it.
        self._terminal: TextIO = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace")
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)
        self._streams = sys.stdout, sys.stderr

    def say(self, text: str) -> None:
        """A line above the view; never waits, also in a signal handler."""
        self._lines.append(text)  # atomic, without a lock

    def start(self) -> None:
        """Begins to draw."""
        out = sys.stdout
        sys.stderr = Lines(self.say, sys.stderr)
        if out.isatty():
            sys.stdout = sys.stderr
        self._thread.start()

    def stop(self) -> None:
        """Draws once more and leaves the view where it is; a terminal that takes nothing is not waited for long."""
        sys.stdout, sys.stderr = self._streams
        self._end.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            self._draw()
        except Exception as error:  # of the terminal, or of drawing: training goes on without a view
            self.say(f"the live view ended: {error!r}")
            self._write_plainly()

    def _draw(self) -> None:
        console = Console(file=self._terminal, force_terminal=True)
        live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        with live:
            console.show_cursor(True)  # a process that is killed could not bring it back
            while True:
                ended = self._end.wait(DRAW_EVERY_S)
                while self._lines:
                    console.print(self._lines.popleft(), markup=False, highlight=False, emoji=False, soft_wrap=True)
                live.update(drawn(self._progress), refresh=True)
                if ended:
                    return

    def _write_plainly(self) -> None:
        try:
            while True:
                ended = self._end.wait(DRAW_EVERY_S)
                while self._lines:
                    self._terminal.write(self._lines.popleft() + "\n")
                self._terminal.flush()
                if ended:
                    return
        except (OSError, ValueError):
            return  # nobody is there
