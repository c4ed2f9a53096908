"""The live view of a training on a terminal; a separate thread draws it, so that training never waits."""

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

from shards.text import printable

DRAW_EVERY_S = 0.5
WINDOW_S = 60.0  # the speed shown is that of the last minute, pauses included
CLOSE_S = 2.0
MAX_LINES = 1000
INDENT = "  "


@dataclass
class RunInfo:
    """Title and sizes of a run.

    Attributes:
        title: Family and name of the run.
        total: Number of steps of the whole run.
        batch: Chunks per step.
        chunk_s: Length of a chunk in seconds.
        epoch: Chunks per epoch.
        save_every: Steps between saves.
    """

    title: str
    total: int
    batch: int
    chunk_s: float
    epoch: int
    save_every: int


class Progress:
    """The state of a run. The training sets plain attributes; the view reads them when it draws.

    Attributes:
        step, epochs: Steps and epochs done.
        losses: Newest means of the unweighted loss terms, and their weighted `total`.
        waiting: Share of the time that training waited for data; None when not known yet.
        doing: What happens instead of training steps; empty while training.
        save_step: Step of the newest save that has started; at first that of the checkpoint resumed from.
    """

    def __init__(self, run_info: RunInfo, step: int, saved_step: Callable[[], int]) -> None:
        self.run_info, self.step = run_info, step
        self.epochs = step * run_info.batch / run_info.epoch
        self.losses: dict[str, float] = {}
        self.waiting: float | None = None
        self.doing = ""
        self.save_step, self.save_start = step, 0.0
        self._saved_step = saved_step
        self._recent = deque([(time.monotonic(), step)])

    def begin_save(self, step: int) -> None:
        """Records that a save has started."""
        self.save_step, self.save_start = step, time.monotonic()

    def rate(self) -> float:
        """Steps per second over the last minute; call it at each drawing."""
        now = time.monotonic()
        self._recent.append((now, self.step))
        while len(self._recent) > 2 and self._recent[1][0] < now - WINDOW_S:
            self._recent.popleft()
        start, first_step = self._recent[0]
        return (self.step - first_step) / max(now - start, 1e-9)

    def saves(self, rate: float) -> str:
        """Describes the last save and the next one."""
        words = []
        if self.save_start and self._saved_step() < self.save_step:
            words.append(f"saving step {self.save_step}")
        elif self.save_start:
            words.append(f"saved at step {self.save_step}, {clock(time.monotonic() - self.save_start)} ago")
        elif self.save_step:
            words.append(f"resumed from step {self.save_step}")
        following = min(self.save_step + self.run_info.save_every, self.run_info.total)
        if following > self.step:
            soon = f" in {clock((following - self.step) / rate)}" if rate else ""
            words.append(f"next save at {following}{soon}")
        return ", ".join(words)


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:34, 3:04:05 or 2 d 3 h."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def render(progress: Progress) -> Group:
    """The view: a progress bar, speed and data, losses, saves."""
    info, step = progress.run_info, progress.step
    rate = progress.rate()
    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=info.total, completed=step, width=24)
    share = f"{100 * step / info.total:.1f} %"
    head.add_row(
        Text(printable(info.title), style="bold"),
        bar,
        f"step {step}/{info.total}",
        share,
        f"epoch {progress.epochs:.2f}",
    )
    audio = rate * info.batch * info.chunk_s
    speed = [f"{rate:.2f} steps/s, {audio:.3g} h of audio per hour" if rate else "no step yet"]
    if rate and step < info.total:
        speed.append(f"{clock((info.total - step) / rate)} left")
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


class LineStream(io.TextIOBase):
    """Replaces stdout or stderr while the view is shown: prints whole lines above the view.

    `fileno` is that of the original stream, for crash reports.
    """

    def __init__(self, say: Callable[[str], None], original: TextIO) -> None:
        self._say, self._original, self._rest = say, original, ""

    def fileno(self) -> int:
        """The file descriptor of the original stream."""
        return self._original.fileno()

    def isatty(self) -> bool:
        """True: the view is shown on terminals only."""
        return True

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str) -> int:
        """Prints the complete lines and keeps the rest; returns the length of `text`."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._say(line)
        return len(text)


class LiveView:
    """Draws a run's progress on the terminal of stderr, and messages above it.

    Text printed to stdout or stderr also appears above the view if the stream is the terminal. A terminal that is
    stopped (Ctrl-S), closed or faulty blocks or ends this thread only.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._end = threading.Event()
        # A separate stream: a flush of sys.stderr must not wait for a write that hangs in the terminal.
        self._terminal: TextIO = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace")
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)
        self._streams = sys.stdout, sys.stderr

    def say(self, text: str) -> None:
        """Adds a line above the view; never waits and is safe in a signal handler."""
        self._lines.append(text)  # atomic, without a lock

    def start(self) -> None:
        """Starts to draw."""
        out = sys.stdout
        sys.stderr = LineStream(self.say, sys.stderr)
        if out.isatty():
            sys.stdout = sys.stderr
        self._thread.start()

    def stop(self) -> None:
        """Draws a last time and leaves the view on the terminal; waits CLOSE_S for it at most."""
        sys.stdout, sys.stderr = self._streams
        self._end.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            self._draw()
        except Exception as error:  # from the terminal or from rich: training continues without a view
            self.say(f"the live view stopped: {error!r}")
            self._write_plainly()

    def _draw(self) -> None:
        console = Console(file=self._terminal, force_terminal=True)
        live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        with live:
            console.show_cursor(True)  # a process that is killed could not show it again
            while True:
                ended = self._end.wait(DRAW_EVERY_S)
                while self._lines:
                    console.print(self._lines.popleft(), markup=False, highlight=False, emoji=False, soft_wrap=True)
                live.update(render(self._progress), refresh=True)
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
            return  # the terminal is closed
