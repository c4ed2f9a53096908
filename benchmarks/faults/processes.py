"""An attempt's processes: start them, find them, kill them, wait for their end."""

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
    """Something that must not happen did: the run hung, or ended by itself."""


class Processes:
    """The launcher and all that came of it, wherever it is now.

    Args:
        command: Of the launcher.
        log: What they print is appended here.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._mark = secrets.token_hex(8)
        self._aimed: list[psutil.Process] = []
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

    def living(self) -> list[psutil.Process]:
        """All of them that are not dead."""
        self.launcher.poll()
        found = []
        for process in psutil.process_iter():
            with suppress(*GONE):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def rank(self, number: int) -> list[psutil.Process]:
        """The training process of a rank: none before it is there and after its end."""
        return [process for process in self.living() if _rank_of(process) == number]

    def wandb(self) -> list[psutil.Process]:
        """W&B's own process."""
        found = []
        for process in self.living():
            with suppress(*GONE):
                if process.name().startswith("wandb-core"):
                    found.append(process)
        return found

    def take_aim(self) -> None:
        """Finds all now, which takes longer than a save, so that `kill_all` need not."""
        self._aimed = self.living()

    def kill_all(self) -> None:
        """Everything at once, as far as that is possible."""
        for process in self._aimed:
            with suppress(*GONE):
                process.kill()  # nobody else who has its number by now
        while living := self.living():
            for process in living:
                kill(process.pid)
            with suppress(subprocess.TimeoutExpired):
                self.launcher.wait(0.01)

    def wait_until(self, condition: Callable[[], bool], limit_s: float, what: str) -> None:
        """Looks often.

        Raises:
            FaultError: when the launcher ends before, or it takes too long.
        """
        end = time.monotonic() + limit_s
        while not condition():
            if self.launcher.poll() is not None and not condition():
                raise FaultError(f"the attempt ended by itself, waiting for {what}: {self.last_words()}")
            if time.monotonic() > end:
                raise FaultError(f"not there after {limit_s:g} s: {what}; {self._stacks()}")
            time.sleep(LOOK_S)

    def wait_for_end(self, limit_s: float) -> float:
        """Until none of them lives; returns the seconds.

        Raises:
            FaultError: when it takes too long; they are killed then.
        """
        begin = time.monotonic()
        while self.living():
            if time.monotonic() - begin > limit_s:
                names = ", ".join(_name(process) for process in self.living())
                told = self._stacks()
                self.kill_all()
                raise FaultError(f"still alive after {limit_s:g} s: {names}; {told}")
            with suppress(subprocess.TimeoutExpired):
                self.launcher.wait(0.05)
            time.sleep(0.02)
        return time.monotonic() - begin

    def last_words(self) -> str:
        """The last error that this attempt printed, else its last line."""
        said = self.log.read_bytes()[self._log_start :].decode(errors="replace")
        lines = [line for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("error", "Error"))]
        return (errors or lines or ["no word"])[-1]

    def _stacks(self) -> str:
        """Where they stand, as far as anybody here can tell."""
        spy = shutil.which("py-spy")
        if not spy:
            return f"see {self.log} and hang-rank-*.txt in the run's folder (py-spy would tell more)"
        with open(self.log, "ab") as output:
            for process in self.living():
                subprocess.run([spy, "dump", "--pid", str(process.pid)], stdout=output, stderr=output, check=False)
        return f"stacks are in {self.log}"


def kill(pid: int) -> None:
    """SIGKILL, to whom is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _rank_of(process: psutil.Process) -> int | None:
    """The rank of a training process; None for all others."""
    with suppress(*GONE):
        words, rank = process.cmdline(), process.environ().get("RANK")
        if rank is not None and "train" in words and "accelerate.commands.launch" not in words:
            return int(rank)
    return None


def _name(process: psutil.Process) -> str:
    try:
        rank = _rank_of(process)
        return f"{process.name()} {process.pid}" + ("" if rank is None else f" (rank {rank})")
    except GONE:
        return str(process.pid)
