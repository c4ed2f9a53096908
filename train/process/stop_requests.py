"""Wishes to stop: the file RUN_DIR/STOP, signals on a workstation, and the end of the launcher."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from train.process.output_streams import call

# Exit codes: finished, and "stopped with everything saved: start me again".
FINISHED = 0
STOPPED = 85
# A launcher passes the signal on that the terminal or Slurm has already sent to every process.
ECHO_S = 3.0
PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


def exit_code_when_stopped() -> int:
    """STOPPED, but under torchrun and accelerate 0: they would take any other code for a crash."""
    return FINISHED if "TORCHELASTIC_RUN_ID" in os.environ else STOPPED


def end_with_launcher() -> None:
    """Has the kernel send this process SIGTERM when its launcher dies.

    Else a launcher that was killed would leave processes that hold the run's folder and the GPUs and that nobody
    looks after: in training until the last step, at start-up until they stop waiting for each other.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if runs_python(os.getpid()) and not runs_python(os.getppid()):
            # It died before it was asked for: some init has taken its place. Nothing is there yet to be saved.
            os.kill(os.getpid(), signal.SIGKILL)


def runs_python(pid: int) -> bool:
    """Whether a process runs Python; False where nobody may know, as of somebody else's process."""
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name.startswith("python")
    except OSError:
        return False


class StopRequest:
    """Whether this process has been asked to stop.

    The first SIGINT or SIGTERM asks for a save at the step's end; a second SIGINT, not one sent along with the
    first, ends the process at once. A second SIGTERM changes nothing: whoever is in a hurry has SIGKILL. So does
    SIGHUP, of a terminal that was closed, unless it is ignored (nohup).

    Args:
        file: The wish as a file.
        look_for_file: Whether this process looks for it, and tells of signals.
        tell: Takes a line for people in a signal handler.
    """

    def __init__(self, file: Path, look_for_file: bool, tell: Callable[[str], None] = call) -> None:
        self.file = file
        self.look_for_file = look_for_file
        self.reason = ""
        self._since = 0.0
        self._tell = tell
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.reason:
            if number == signal.SIGINT and now - self._since > ECHO_S:
                raise KeyboardInterrupt
            return
        self.reason, self._since = signal.Signals(number).name, now
        if self.look_for_file:
            self._tell(f"{self.reason}: saving at the end of this step; Ctrl-C once more ends at once")

    def __call__(self) -> bool:
        """Whether to stop after this step."""
        if self.look_for_file and not self.reason and self.file.exists():
            self.reason, self._since = "STOP", time.monotonic()
        return bool(self.reason)
