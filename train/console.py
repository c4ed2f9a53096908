"""What a person sees while training: a bar on a terminal, plain lines in a log. Rank 0 only."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 10.0


class Display:
    """Progress of a run of `total` steps, begun at `step`; silent unless `shown`."""

    def __init__(self, title: str, step: int, total: int, shown: bool) -> None:
        self.title, self.total, self.shown = title, total, shown
        self.first, self.began, self.last = step, time.monotonic(), 0.0
        self.bar: Progress | None = None
        console = Console(stderr=True)
        if shown and console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=console,
            )
            self.task = self.bar.add_task(title, total=total, completed=step, note="")

    def __enter__(self) -> "Display":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def step(self, step: int) -> None:
        """One step further."""
        if self.bar:
            self.bar.update(self.task, completed=step)

    def note(self, step: int, values: dict[str, float]) -> None:
        """The newest values."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self.bar:
            self.bar.update(self.task, note=text)
        elif self.shown and (time.monotonic() - self.last > LINE_EVERY_S or step == self.total):
            self.last = time.monotonic()
            rate = (step - self.first) / max(1e-9, self.last - self.began)
            left = (self.total - step) / max(rate, 1e-9)
            print(
                f"{self.title} step {step}/{self.total}  {text}  {rate:.2f} steps/s  {left / 60:.1f} min left",
                file=sys.stderr,
                flush=True,
            )

    def say(self, text: str) -> None:
        """A line for people."""
        if self.shown:
            self.warn(text)

    def warn(self, text: str) -> None:
        """A line for people, from any process."""
        if self.bar:
            self.bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)
