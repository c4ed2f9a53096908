"""The processes of an attempt: start, find and kill them, and wait for their end."""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.faults.target import MARK, ROOT, environment

LOOK_S = 0.005
GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, FileNotFoundError, ProcessLookupError)


class FaultError(Exception):
    """The command hung, or ended without a fault."""


class Processes:
    """The launcher and all its descendants, including those that outlive their parents.

    Args:
        command: The command of the launcher.
        log: The file to which their output is appended.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._mark = secrets.token_hex(8)
        self._targets: list[psutil.Process] = []
        self.began = time.time()
        with open(log, "ab") as output:
            self.launcher = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(self._mark),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def alive(self) -> list[psutil.Process]:
        """The processes that are running."""
        # For a moment after its start, the system shows no environment of a process.
        started = self.launcher.pid if self.launcher.poll() is None else None
        found = []
        for process in psutil.process_iter():
            with suppress(*GONE):
                own = process.pid == started or process.environ().get(MARK) == self._mark
                if own and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def rank(self, number: int) -> list[psutil.Process]:
        """The training process of a rank; an empty list before its start and after its end."""
        return [process for process in self.alive() if _rank_of(process) == number]

    def wandb(self) -> list[psutil.Process]:
        """The process of W&B."""
        found = []
        for process in self.alive():
            with suppress(*GONE):
                if process.name().startswith("wandb-core"):
                    found.append(process)
        return found

    def find_targets(self) -> None:
        """Looks up all processes in advance for `kill_all`, because the look-up takes longer than a save."""
        self._targets = self.alive()

    def kill_all(self) -> None:
        """Kills everything as nearly at once as possible."""
        for process in self._targets:
            with suppress(*GONE):
                process.kill()  # psutil makes sure that the PID still belongs to it
        while alive := self.alive():
            for process in alive:
                kill(process.pid)
            with suppress(subprocess.TimeoutExpired):
                self.launcher.wait(0.01)

    def wait_until(self, condition: Callable[[], bool], limit_s: float, what: str) -> None:
        """Polls a condition until it is true.

        Raises:
            FaultError: if the launcher ends before that, or it takes longer than `limit_s`.
        """
        end = time.monotonic() + limit_s
        while not condition():
            if self.launcher.poll() is not None and not condition():
                raise FaultError(f"the attempt ended without a fault, waiting for {what}: {self.last_error()}")
            if time.monotonic() > end:
                raise FaultError(f"timed out after {limit_s:g} s: {what}; {self._stacks()}")
            time.sleep(LOOK_S)

    def wait_for_end(self, limit_s: float) -> float:
        """Waits until all processes have ended; returns the seconds.

        Raises:
            FaultError: if it takes longer than `limit_s`; the processes are killed then.
        """
        begin = time.monotonic()
        while self.alive():
            if time.monotonic() - begin > limit_s:
                names = ", ".join(_name(process) for process in self.alive())
                stacks = self._stacks()
                self.kill_all()
                raise FaultError(f"still running after {limit_s:g} s: {names}; {stacks}")
            with suppress(subprocess.TimeoutExpired):
                self.launcher.wait(0.05)
            time.sleep(0.02)
        return time.monotonic() - begin

    def output(self) -> str:
        """What this attempt has printed."""
        return self.log.read_bytes()[self._log_start :].decode(errors="replace")

    def last_error(self) -> str:
        """The last error that this attempt printed, else its last line."""
        lines = [line for line in self.output().splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("error", "Error"))]
        return (errors or lines or ["no output"])[-1]

    def _stacks(self) -> str:
        """Logs the stacks of all processes if py-spy is installed; returns where to look."""
        py_spy = shutil.which("py-spy")
        if not py_spy:
            return f"see {self.log} and hang-rank-*.txt in the run's folder (install py-spy for stacks)"
        with open(self.log, "ab") as output:
            for process in self.alive():
                subprocess.run([py_spy, "dump", "--pid", str(process.pid)], stdout=output, stderr=output, check=False)
        return f"stacks are in {self.log}"


def kill(pid: int) -> None:
    """Sends SIGKILL to a process if it is still running."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _rank_of(process: psutil.Process) -> int | None:
    """The rank of a process of the command, 0 without a launcher; None for other processes."""
    with suppress(*GONE):
        words, rank = process.cmdline(), process.environ().get("RANK", "0")
        if "train" in words and "accelerate.commands.launch" not in words:
            return int(rank)
    return None


def _name(process: psutil.Process) -> str:
    try:
        rank = _rank_of(process)
        return f"{process.name()} {process.pid}" + ("" if rank is None else f" (rank {rank})")
    except GONE:
        return str(process.pid)
