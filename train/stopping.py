"""Wishes to stop: the file RUN_DIR/STOP, and signals on a workstation."""

import signal
import sys
from pathlib import Path
from types import FrameType

# Exit codes: finished, and "stopped with everything saved: start me again".
FINISHED = 0
STOPPED = 85


class StopWish:
    """Whether this process has been asked to stop.

    The first SIGINT or SIGTERM asks for a save at the step's end; a second one ends the process at once.
    """

    def __init__(self, file: Path, look_for_file: bool) -> None:
        self.file = file
        self.look_for_file = look_for_file
        self.reason = ""
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.reason = signal.Signals(number).name
        self.restore()
        if self.look_for_file:
            print(
                f"{self.reason}: saving at the end of this step; once more ends at once",
                file=sys.stderr,
                flush=True,
            )

    def __call__(self) -> bool:
        """Whether to stop after this step."""
        if self.look_for_file and not self.reason and self.file.exists():
            self.reason = "STOP"
        return bool(self.reason)

    def restore(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
