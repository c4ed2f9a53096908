"""What a person sees while training: a live view on a terminal, plain lines in a log. Rank 0 only."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from train.process.live_view import LiveView, Progress, RunInfo
from train.process.output_streams import call

LINE_EVERY_S = 10.0
IN_A_LINE = ("total", "mse", "stft")


def is_lively(stream: Any) -> bool:
    """Whether a live view makes sense: a terminal that can move its cursor, and nobody who asked for plain text."""
    plain = os.environ.get("TERM", "") in ("", "dumb", "unknown") or "NO_COLOR" in os.environ or "CI" in os.environ
    try:
        return not plain and stream.isatty()
    except ValueError:  # closed
        return False


class Display:
    """Progress of a run, begun at `step`; silent unless `shown`.

    Training never waits for a terminal: a thread draws, and what a terminal does not take is lost. Plain lines are
    written at once.

    Args:
        scale: What the run's steps amount to.
        step: Steps that were done before.
        shown: Whether this is the process that speaks.
        written: Tells the newest step that is safe on the disk, 0 for none by this process.
    """

    def __init__(self, scale: RunInfo, step: int, shown: bool, written: Callable[[], int] = lambda: 0) -> None:
        self.scale, self.shown = scale, shown
        self.first, self.began, self.last = step, time.monotonic(), 0.0
        self.view: LiveView | None = None
        self.progress = Progress(scale, step, written)
        if shown and is_lively(sys.stderr):
            self.view = LiveView(self.progress)

    def __enter__(self) -> "Display":
        if self.view:
            self.view.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.view:
            self.view.stop()

    def step(self, step: int, epochs: float) -> None:
        """One step further; `epochs` have passed since the run began."""
        self.progress.step, self.progress.epochs = step, epochs

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """The newest values of training, under the names of the log."""
        losses = {name.removeprefix("loss/"): value for name, value in values.items() if name.startswith("loss/")}
        self.progress.losses = losses
        self.progress.waiting = values.get("perf/data_wait_share")
        if (
            self.view is None
            and self.shown
            and (time.monotonic() - self.last > LINE_EVERY_S or step == self.scale.total)
        ):
            self.last = time.monotonic()
            text = "  ".join(f"{name} {losses.get(name, float('nan')):.4g}" for name in IN_A_LINE)
            rate = (step - self.first) / max(1e-9, self.last - self.began)
            left = (self.scale.total - step) / max(rate, 1e-9)
            print(
                f"{self.scale.title} step {step}/{self.scale.total}  {text}  {rate:.2f} steps/s  "
                f"{left / 60:.1f} min left",
                file=sys.stderr,
                flush=True,
            )

    def saving(self, step: int) -> None:
        """A checkpoint of that step has begun."""
        self.progress.begin_save(step)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Around what is no training: the view says so."""
        self.progress.doing = what
        try:
            yield
        finally:
            self.progress.doing = ""

    def say(self, text: str) -> None:
        """A line for people."""
        if self.shown:
            self.warn(text)

    def warn(self, text: str) -> None:
        """A line for people, from any process."""
        if self.view:
            self.view.say(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def call(self, text: str) -> None:
        """A line for people from a signal handler: print may be under way where the signal came."""
        if self.view:
            self.view.say(text)
        else:
            call(text)
