"""Stop requests: the file RUN_DIR/STOP, signals, other processes of the run, and the end of the launcher."""

import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

import psutil

from train.process.output_streams import write_stderr

# Exit codes: the run is finished; the run is saved and the same command resumes it.
FINISHED = 0
STOPPED = 85
# Seconds in which a second signal counts as a copy: the terminal or Slurm signals every process, and the launcher then
# forwards the signal again.
DUPLICATE_S = 3.0
# How often a process looks for the file and asks the other processes.
POLL_S = 0.25
# How long a process that ends waits for the others to hear of it: a lost process would be an error to them.
HEARD_S = 4 * POLL_S
# How long a process that has lost another one waits to hear that it was asked to stop.
NEWS_S = 2 * HEARD_S
# How long the end of a process may take that has nothing to save: W&B and a slow disk are waited for.
END_S = 60.0
PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>
ELSEWHERE = "signal on another process"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Sent by this process to its own main thread, to wake it from a wait.
WAKE = signal.SIGUSR1


def exit_code_when_stopped() -> int:
    """STOPPED; under torchrun and accelerate FINISHED, as they treat any other code as a crash."""
    return FINISHED if "TORCHELASTIC_RUN_ID" in os.environ else STOPPED


def end_with_launcher() -> None:
    """Makes the kernel send SIGTERM to this process when its launcher dies.

    Otherwise the processes of a killed launcher would keep the run's folder and the GPUs: during training until the
    last step, during start-up until they stop waiting for each other.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:  # slurm/lib.sh starts launchers in this way
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
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


def requests(numbers: bytes) -> list[str]:
    """The names of the stop requests among signals that came at about the same time, the best reason first.

    Ctrl-C also reaches the launcher, which then sends SIGTERM. If both signals are pending, the handler of SIGTERM may
    run first. Signals that are read together are put in order; of signals that are read apart, the first counts.
    """
    return [signal.Signals(number).name for number in sorted(numbers) if number in SIGNALS]


class Notice(Protocol):
    """A place where the processes of a run tell each other that one of them was asked to stop."""

    def post(self) -> None:
        """Tells the other processes; does not wait for them."""

    def posted(self) -> bool:
        """Whether any process has told the others."""


class StopNowError(Exception):
    """Raised in the main thread by a stop request within `StopRequest.interruptible`."""


class StopRequest:
    """Records whether this process has been asked to stop; call it to ask.

    SIGINT, SIGTERM, SIGHUP (a closed terminal; ignored under nohup), the file STOP, and a request to another process
    count. A thread of this object sees them, also while the main thread is in a library that does not return. What
    follows depends on what the process is doing:

    - While there is nothing to save (after `nothing_unsaved`), the thread ends the process at once, with the exit code
      of any other stop.
    - While only the end of work is waited for (after `closing`), the thread ends the process at the next signal.
    - Within `interruptible`, StopNowError is raised in the main thread.
    - Otherwise the training loop asks at the end of each step, saves and stops.

    A second SIGINT ends the process at once, unless it is a copy of the first. A second SIGTERM or SIGHUP does nothing.

    Args:
        file: The file that requests a stop.
        is_main: Whether this process looks for the file and prints lines.
        tell: Prints a line; called in a thread.

    Attributes:
        reason: Why to stop; empty without a request.
        notice: The other processes, once they have met; None if there are none.
        tell: See above.
    """

    def __init__(
        self,
        file: Path,
        is_main: bool,
        tell: Callable[[str], None] = write_stderr,
    ) -> None:
        self.file, self.is_main, self.tell, self.reason = file, is_main, tell, ""
        self.notice: Notice | None = None
        self._since = 0.0
        self._stale = self._stale_file()
        self._lock = threading.Lock()  # held for ever by the thread that ends the process
        self._end: Callable[[str], None] | None = None
        self._code: int | None = None
        self._interruptible = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # Not select(), which refuses descriptors of 1,024 and above: a process with many open files reaches them.
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        signal.signal(WAKE, self._on_wake)
        threading.Thread(target=self._watch, name="stop requests", daemon=True).start()

    def __call__(self) -> bool:
        """Whether to stop after this step."""
        self._look()
        return bool(self.reason)

    @property
    def by_signal(self) -> bool:
        """Whether a signal asked, to this process or another: the launcher or the user waits for the end."""
        return bool(self.reason) and self.reason != "STOP"

    def nothing_unsaved(self, end: Callable[[str], None]) -> None:
        """From now on a stop ends the process at once, also one that was requested before.

        Args:
            end: Called with the reason before the process ends: writes records, prints a line; within seconds.
        """
        with self._lock:
            self._end = end
            self._look()  # a short start-up is over before the thread looks
            if self.reason:
                self._end_process(end)

    def closing(self, end: Callable[[str], None], code: int) -> None:
        """From now on another signal ends the process at once with this exit code; the request that led here does not.

        Args:
            end: As for `nothing_unsaved`.
            code: The exit code.
        """
        with self._lock:
            self._end, self._code = end, code

    def unsaved_work(self) -> None:
        """From now on a stop is the caller's, who asks for it and saves."""
        with self._lock:
            self._end = None

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within the block, a stop request raises StopNowError at any place of the main thread.

        The block must change nothing that lasts, and must call no collective.
        """
        self._interruptible = True
        try:
            if self.reason:
                raise StopNowError
            yield
        finally:
            self._interruptible = False

    def explains_loss(self) -> None:
        """Waits whether the loss of another process is a stop; if this process is ending for one, does not return."""
        until = time.monotonic() + NEWS_S
        while self.notice and not self.reason and time.monotonic() < until:
            time.sleep(POLL_S)
        time.sleep(POLL_S if self.reason else 0.0)  # the thread takes the lock soon after
        with self._lock:
            return

    def wait_for_end(self) -> NoReturn:
        """Waits for the thread to end the process, while nothing is unsaved and some process was asked to stop."""
        time.sleep(END_S)
        raise RuntimeError(f"a stop request did not end this process within {END_S:g} s")

    def close(self) -> None:
        """Ends the thread; signals keep their handlers. For tests."""
        signal.set_wakeup_fd(self._old_fd)
        os.close(self._write)

    def _stale_file(self) -> int:
        """When the file was written, if that was before this process began: a request to an earlier attempt."""
        with suppress(OSError):
            status = self.file.stat()
            if status.st_mtime < psutil.Process().create_time():
                return status.st_mtime_ns
        return -1

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.reason and number == signal.SIGINT and now - self._since > DUPLICATE_S and self._end is None:
            raise KeyboardInterrupt
        self._ask(signal.Signals(number).name)

    def _on_wake(self, _number: int, _frame: FrameType | None) -> None:
        if self._interruptible:
            self._interruptible = False
            raise StopNowError

    def _ask(self, reason: str) -> None:
        """Notes the first request; called by the main thread, signal handlers and the thread."""
        if not self.reason:
            self._since = time.monotonic()
            self.reason = reason

    def _look(self) -> None:
        """Looks for the file; the main process does."""
        if self.is_main and not self.reason:
            with suppress(OSError):
                if self.file.stat().st_mtime_ns != self._stale:
                    self._ask("STOP")

    def _watch(self) -> None:
        known = False
        while True:
            numbers = self._signals(POLL_S)
            if numbers is None:
                return
            asked = requests(numbers)
            if asked:
                self._ask(asked[0])
            self._look()
            if not self.reason and self.notice and self.notice.posted():
                # A terminal signals all processes at about the same time; the own signal is the better reason.
                self._ask((requests(self._signals(POLL_S) or b"") or [ELSEWHERE])[0])
            if self.reason and not known:
                known = True
                self._react()
            elif known and self._end and asked and time.monotonic() - self._since > DUPLICATE_S:
                self._react()  # a second signal while only W&B is waited for
            elif known and not numbers:
                # A signal that comes between Python's look for signals and a system call does not interrupt the call.
                self._wake()

    def _signals(self, timeout_s: float) -> bytes | None:
        """The numbers of the signals that came within a time; None when this object is closed."""
        if not self._poll.poll(1000 * timeout_s):
            return b""
        return os.read(self._read, 64) or None

    def _react(self) -> None:
        if self.notice and self.reason != ELSEWHERE:
            self.notice.post()
        with self._lock:
            if self._end:
                self._end_process(self._end)
            if self.is_main:
                hint = "; press Ctrl-C again to end at once" if self.reason == "SIGINT" else ""
                when = "now" if self._interruptible else "at the end of this step"
                self.tell(f"{self.reason}: saving {when}{hint}")
            self._wake()

    def _wake(self) -> None:
        """Interrupts the main thread if it may be interrupted."""
        if self._interruptible:
            signal.pthread_kill(threading.main_thread().ident or 0, WAKE)

    def _end_process(self, end: Callable[[str], None]) -> None:
        """Ends the process, whatever its main thread does; the lock keeps that from going on with what waits for it."""
        try:
            end(self.reason)
            if self.notice:
                time.sleep(HEARD_S)
        finally:
            # Nothing is flushed: a terminal that is stopped would keep this thread. All lines are flushed when printed.
            os._exit(exit_code_when_stopped() if self._code is None else self._code)
