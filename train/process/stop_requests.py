"""Stop requests: the file RUN_DIR/STOP, signals, and the end of the launcher."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from train.process.output_streams import write_stderr

# Exit codes: the run is finished; the run is saved and the same command resumes it.
FINISHED = 0
STOPPED = 85
# Seconds in which a second signal counts as a copy: the terminal or Slurm signals every process, and the launcher then
# forwards the signal again.
DUPLICATE_S = 3.0
PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


def exit_code_when_stopped() -> int:
    """STOPPED; under torchrun and accelerate FINISHED, as they treat any other code as a crash."""
    return FINISHED if "TORCHELASTIC_RUN_ID" in os.environ else STOPPED


def end_with_launcher() -> None:
    """Makes the kernel send SIGTERM to this process when its launcher dies.

    Otherwise the processes of a killed launcher would keep the run's folder and the GPUs: during training until the
    last step, during start-up until they stop waiting for each other.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if runs_python(os.getpid()) and not runs_python(os.getppid()):
            # The launcher died before prctl: the parent is an init process now. There is nothing to save yet.
            os.kill(os.getpid(), signal.SIGKILL)


def runs_python(pid: int) -> bool:
    """Whether a process runs Python; False when that cannot be read, such as for another user's process."""
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name.startswith("python")
    except OSError:
        return False


class StopRequest:
    """Records whether this process has been asked to stop; call it to ask.

    The first SIGINT, SIGTERM or SIGHUP (a closed terminal) requests a save at the end of the step; SIGHUP stays ignored
    under nohup. A second SIGINT ends the process at once, unless it is a copy of the first. A second SIGTERM or SIGHUP
    has no effect; use SIGKILL to end the process at once.

    Args:
        file: The file that requests a stop.
        look_for_file: Whether this process looks for the file and prints a line about signals.
        tell: Prints a line; called in a signal handler.
    """

    def __init__(self, file: Path, look_for_file: bool, tell: Callable[[str], None] = write_stderr) -> None:
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
            if number == signal.SIGINT and now - self._since > DUPLICATE_S:
                raise KeyboardInterrupt
            return
        self.reason, self._since = signal.Signals(number).name, now
        if self.look_for_file:
            hint = "; press Ctrl-C again to end at once" if number == signal.SIGINT else ""
            self._tell(f"{self.reason}: saving at the end of this step{hint}")

    def __call__(self) -> bool:
        """Whether to stop after this step."""
        if self.look_for_file and not self.reason and self.file.exists():
            self.reason, self._since = "STOP", time.monotonic()
        return bool(self.reason)
