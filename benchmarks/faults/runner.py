"""Starts a run again and again under faults until it has finished."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.disk import Disk
from benchmarks.faults.injection import finish, inject, wait_for_moment
from benchmarks.faults.observation import last_attempt, newest_intact, reached, sizes
from benchmarks.faults.plan import Fault, most_lost
from benchmarks.faults.processes import FaultError, Processes
from shards.files import read_lines
from train.runs.run_folder import METRICS_FILE

END_S = 240  # from a fault to the end of the last process; launchers wait 30 s, the watchdog 60
START_UP_S = 8.0  # an estimate for the first attempt
WHOLE_S = 3600


@dataclass
class Outcome:
    """The outcome of a fault.

    Attributes:
        fault: The fault.
        attempt: The number of the affected attempt; None if it had not logged its start.
        start: The step at which the attempt started.
        reached: Its last step.
        saved: The step from which the next attempt must resume.
        allowed: Steps that may be lost.
        injected: Unix time of the fault.
        end_s: Seconds until all processes had ended.
        recovery_s: Seconds until the first step of the next attempt; None if another fault came before it.
        note: A description of the damage.
    """

    fault: Fault
    attempt: int | None
    start: int
    reached: int
    saved: int
    allowed: int
    injected: float
    end_s: float
    recovery_s: float | None = None
    note: str = ""

    @property
    def lost(self) -> int:
        """Steps that must be repeated."""
        return self.reached - self.saved

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {**asdict(self), "lost": self.lost}


class FaultRunner:
    """Injects faults one after the other, each into a new attempt of the run.

    Args:
        command: The command that starts or resumes the run.
        run: The folder of the run.
        disk: The disk of the folder.
        log: The file for the output of the attempts.
        tell: Is called with a line of progress for each fault.
    """

    def __init__(self, command: list[str], run: Path, disk: Disk, log: Path, tell: Callable[[str], None]) -> None:
        self._command, self._run, self._disk, self._log, self._tell = command, run, disk, log, tell
        self._start_up_s = START_UP_S
        self.outcomes: list[Outcome] = []

    def run_all(self, faults: Sequence[Fault]) -> list[Outcome]:
        """Injects all faults, then lets the run finish undisturbed. Ctrl-C ends the injection early.

        Raises:
            FaultError: if an attempt hangs, or ends without a fault.
        """
        for number, fault in enumerate(faults, start=1):
            try:
                outcome = self._run_attempt(fault)
            except FaultError as error:
                raise FaultError(f"fault {number} ({fault.kind}): {error}") from None
            except KeyboardInterrupt:
                self._disk.free()
                self._tell(f"no more faults after {number - 1} of {len(faults)}; the run may now finish")
                break
            self._tell(
                f"{number:3d} {fault.kind:26s} steps {outcome.start} to {outcome.reached}, lost {outcome.lost} "
                f"of {outcome.allowed}, ended in {outcome.end_s:.1f} s {outcome.note}"
            )
            self.outcomes.append(outcome)
        processes = Processes(self._command, self._log)
        processes.wait_for_end(WHOLE_S)
        if not (self._run / "DONE").exists():
            raise FaultError(f"the run ended without a fault and has not finished: {processes.last_error()}")
        self._note_recovery(processes)
        return self.outcomes

    def _run_attempt(self, fault: Fault) -> Outcome:
        run = self._run
        noted = sizes(run)
        before = last_attempt(run)
        number = (before["attempt"] if before else 0) + 1
        saved = newest_intact(run)
        processes = Processes(self._command, self._log)
        try:
            wait_for_moment(fault, processes, run, number, self._start_up_s)
            injected = inject(fault, processes, run, self._disk)
            processes.wait_for_end(END_S)
            ended = time.time()
        finally:
            processes.kill_all()
        start = last_attempt(run)
        began = start is not None and start["attempt"] == number
        first = start["step"] if began else saved  # type: ignore[index]
        if first != saved:
            raise FaultError(f"the attempt began at step {first}, the newest intact checkpoint is of step {saved}")
        last = reached(run, noted)
        last = saved if last is None else last
        self._note_recovery(processes, number)
        if fault.kind == "disk full" and fault.where < 0.5:
            self._start_on_full_disk()
        note = finish(fault, run, self._disk)
        allowed = most_lost(fault.kind, first, last)
        return Outcome(
            fault,
            number if began else None,
            first,
            last,
            newest_intact(run),
            allowed,
            round(injected, 3),
            round(ended - injected, 2),
            note=note,
        )

    def _start_on_full_disk(self) -> None:
        """Runs an attempt without disk space, which must end on its own and change nothing."""
        Processes(self._command, self._log).wait_for_end(END_S)

    def _note_recovery(self, processes: Processes, number: int | None = None) -> None:
        """Notes when the attempt that has ended made its first step, which is the recovery from the previous fault."""
        first = first_step_of(self._run, number)
        if first is None:
            return
        self._start_up_s = first - processes.began
        if self.outcomes and self.outcomes[-1].recovery_s is None:
            self.outcomes[-1].recovery_s = round(first - self.outcomes[-1].injected, 2)


def first_step_of(run: Path, attempt: int | None) -> float | None:
    """Unix time of the first step of an attempt (the last one if None), or None if it made no step."""
    start = last_attempt(run)
    if start is None or (attempt is not None and start["attempt"] != attempt):
        return None
    own = [row for row in read_lines(run / METRICS_FILE) if row["attempt"] == start["attempt"]]
    return next((row["time"] for row in own if row["step"] > start["step"]), None)
