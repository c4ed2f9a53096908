"""The output during training: a live view on a terminal, plain lines in a log. Rank 0 only."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from shards.text import printable, printable_lines
from train.process.live_view import LiveView, Progress, RunInfo
from train.process.output_streams import write_stderr

LINE_EVERY_S = 10.0
# Losses that a plain line shows, those that the model has.
LINE_LOSSES = ("total", "mse", "stft")


def supports_live_view(stream: Any) -> bool:
    """Whether a stream is a terminal that can move its cursor, and no variable asks for plain text (NO_COLOR, CI)."""
    plain = os.environ.get("TERM", "") in ("", "dumb", "unknown") or "NO_COLOR" in os.environ or "CI" in os.environ
    try:
        return not plain and stream.isatty()
    except ValueError:  # closed
        return False


class Display:
    """Shows the progress of a run.

    Training never waits for a terminal: a thread draws the view, and output that the terminal does not accept is lost.
    Plain lines are written at once.

    Args:
        run_info: The run's title and sizes.
        step: Steps done before this attempt.
        shown: Whether this process prints; rank 0 does.
        saved_step: Returns the newest step that this process has saved to disk; 0 for none.
    """

    def __init__(self, run_info: RunInfo, step: int, shown: bool, saved_step: Callable[[], int] = lambda: 0) -> None:
        self.run_info, self.shown = run_info, shown
        self.first_step, self.start, self.last_line = step, time.monotonic(), 0.0
        self.view: LiveView | None = None
        self.progress = Progress(run_info, step, saved_step)
        if shown and supports_live_view(sys.stderr):
            self.view = LiveView(self.progress)

    def __enter__(self) -> "Display":
        if self.view:
            self.view.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.view:
            self.view.stop()

    def step(self, step: int, epochs: float) -> None:
        """Records that `step` steps and `epochs` epochs of the run are done."""
        self.progress.step, self.progress.epochs = step, epochs

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Records the newest training values, by their names in the log, and prints a plain line from time to time."""
        losses = {name.removeprefix("loss/"): value for name, value in values.items() if name.startswith("loss/")}
        self.progress.losses = losses
        self.progress.waiting = values.get("perf/data_wait_share")
        if (
            self.view is None
            and self.shown
            and (time.monotonic() - self.last_line > LINE_EVERY_S or step == self.run_info.total)
        ):
            self.last_line = time.monotonic()
            known = [name for name in LINE_LOSSES if name in losses or name == "total"]
            text = "  ".join(f"{name} {losses.get(name, float('nan')):.4g}" for name in known)
            rate = (step - self.first_step) / max(1e-9, self.last_line - self.start)
            left = (self.run_info.total - step) / max(rate, 1e-9)
            title = printable(self.run_info.title)
            print(
                f"{title} step {step}/{self.run_info.total}  {text}  {rate:.2f} steps/s  {left / 60:.1f} min left",
                file=sys.stderr,
                flush=True,
            )

    def saving(self, step: int) -> None:
        """Records that a save of this step has started."""
        self.progress.begin_save(step)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Shows in the view what happens instead of training, such as an evaluation."""
        self.progress.doing = what
        try:
            yield
        finally:
            self.progress.doing = ""

    def say(self, text: str) -> None:
        """Prints a line, on rank 0 only."""
        if self.shown:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Prints a line, on any rank."""
        text = printable_lines(text)
        if self.view:
            self.view.say(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def call(self, text: str) -> None:
        """Prints a line from a signal handler, which may have interrupted a print."""
        text = printable(text)
        if self.view:
            self.view.say(text)
        else:
            write_stderr(text)
