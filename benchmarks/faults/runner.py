"""Starts a command again and again under faults until it has finished."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.disk import Disk
from benchmarks.faults.injection import finish, inject, wait_for_moment
from benchmarks.faults.plan import Fault
from benchmarks.faults.processes import FaultError, Processes
from benchmarks.faults.target import Attempt, Target

END_S = 240  # from a fault to the end of the last process; launchers wait 30 s, the watchdog 60
START_UP_S = 8.0  # an estimate for the first attempt
WHOLE_S = 3600


@dataclass
class Outcome:
    """The outcome of a fault.

    Attributes:
        fault: The fault.
        attempt: The number of the affected attempt; None if it has none, or had not logged its start.
        start: The step at which the attempt started; of an encoding, its recordings.
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
    """Injects faults one after the other, each into a new attempt of a command.

    Args:
        target: The command and its folder.
        disk: The disk of the folder.
        log: The file for the output of the attempts.
        tell: Is called with a line of progress for each fault.
    """

    def __init__(self, target: Target, disk: Disk, log: Path, tell: Callable[[str], None]) -> None:
        self._target, self._disk, self._log, self._tell = target, disk, log, tell
        self._start_up_s = START_UP_S
        self.outcomes: list[Outcome] = []

    def run_all(self, faults: Sequence[Fault]) -> list[Outcome]:
        """Injects all faults, then lets the command finish undisturbed. Ctrl-C ends the injection early.

        Raises:
            FaultError: if an attempt hangs, or ends without a fault.
        """
        for number, fault in enumerate(faults, start=1):
            try:
                if not self._target.has_room(fault):
                    self._finish()
                    self._target.set_aside()
                outcome = self._run_attempt(fault)
            except FaultError as error:
                raise FaultError(f"fault {number} ({fault.kind}): {error}") from None
            except KeyboardInterrupt:
                self._disk.free()
                self._tell(f"no more faults after {number - 1} of {len(faults)}; the run may now finish")
                break
            self._tell(
                f"{number:3d} {fault.kind:26s} {self._target.unit} {outcome.start} to {outcome.reached}, lost "
                f"{outcome.lost} of {outcome.allowed}, ended in {outcome.end_s:.1f} s {outcome.note}"
            )
            self.outcomes.append(outcome)
        self._finish()
        return self.outcomes

    def _finish(self) -> None:
        """Lets the command finish undisturbed."""
        attempt = self._target.attempt()
        processes = Processes(self._target.command(None), self._log)
        try:
            processes.wait_for_end(WHOLE_S)
        finally:
            processes.kill_all()
        if not self._target.is_done():
            raise FaultError(f"the run ended without a fault and has not finished: {processes.last_error()}")
        attempt.end(processes.output())
        self._note_recovery(processes, attempt)

    def _run_attempt(self, fault: Fault) -> Outcome:
        target, command = self._target, self._target.command(fault)
        attempt = target.attempt()
        ranks = target.ranks(fault)
        processes = Processes(command, self._log)
        try:
            wait_for_moment(fault, processes, target, attempt, self._start_up_s)
            injected = inject(fault, processes, target.run, self._disk, ranks)
            processes.wait_for_end(END_S)
            ended = time.time()
        finally:
            processes.kill_all()
        last = attempt.end(processes.output())
        self._note_recovery(processes, attempt)
        if fault.kind == "disk full" and fault.where < 0.5:
            self._start_on_full_disk(command)
        note = finish(fault, target, self._disk)
        return Outcome(
            fault,
            attempt.number,
            attempt.kept,
            last,
            target.kept(),
            target.most_lost(fault.kind, attempt.kept, last),
            round(injected, 3),
            round(ended - injected, 2),
            note=note,
        )

    def _start_on_full_disk(self, command: list[str]) -> None:
        """Runs an attempt without disk space, which must end on its own and change nothing."""
        Processes(command, self._log).wait_for_end(END_S)

    def _note_recovery(self, processes: Processes, attempt: Attempt) -> None:
        """Notes when an attempt that has ended made its first step, which is the recovery from the previous fault."""
        first = attempt.first_step()
        if first is None:
            return
        self._start_up_s = first - processes.began
        if self.outcomes and self.outcomes[-1].recovery_s is None:
            self.outcomes[-1].recovery_s = round(first - self.outcomes[-1].injected, 2)
