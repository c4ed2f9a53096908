"""The plain loop that starts a run until it is done, under attack."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.disk import Disk
from benchmarks.faults.injection import afterwards, strike, wait_for_moment
from benchmarks.faults.observation import last_attempt, newest_intact, reached, sizes
from benchmarks.faults.plan import Attack, most_lost
from benchmarks.faults.processes import FaultError, Processes
from shards.files import read_lines
from train.runs.run_folder import METRICS_FILE

END_S = 240  # from an attack to the end of the last process; launchers wait 30 s, the watchdog 60
START_UP_S = 8.0  # a guess for the first attempt
WHOLE_S = 3600


@dataclass
class Outcome:
    """What an attack did.

    Attributes:
        attack: It.
        attempt: The number of the attempt that was hit; None when it had not noted its start.
        start: Steps done when that began.
        reached: Its last step.
        saved: Where the next attempt has to go on.
        allowed: Steps that may be lost.
        struck: Unix time of the attack.
        end_s: Seconds until no process was left.
        recovery_s: Seconds until the next attempt's first step; None when another attack came before.
        note: What was damaged, and how.
    """

    attack: Attack
    attempt: int | None
    start: int
    reached: int
    saved: int
    allowed: int
    struck: float
    end_s: float
    recovery_s: float | None = None
    note: str = ""

    @property
    def lost(self) -> int:
        """Steps that have to be made again."""
        return self.reached - self.saved

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "lost": self.lost}


class FaultRunner:
    """Attacks in turn, each on an attempt of its own.

    Args:
        command: Starts the run, or goes on with it.
        run: Its folder.
        disk: What the folder lies on.
        log: Where the attempts' output goes.
        tell: Called with a line about each attack.
    """

    def __init__(self, command: list[str], run: Path, disk: Disk, log: Path, tell: Callable[[str], None]) -> None:
        self._command, self._run, self._disk, self._log, self._tell = command, run, disk, log, tell
        self._start_up_s = START_UP_S
        self.outcomes: list[Outcome] = []
        self.finish_s = 0.0

    def carry_out(self, attacks: Sequence[Attack]) -> list[Outcome]:
        """All attacks, then in peace until the run is done; Ctrl-C means no more attacks.

        Raises:
            FaultError: when an attempt hangs, or ends although nobody attacked it.
        """
        for number, attack in enumerate(attacks, start=1):
            try:
                outcome = self._attacked(attack)
            except FaultError as error:
                raise FaultError(f"attack {number} ({attack.kind}): {error}") from None
            except KeyboardInterrupt:
                self._disk.free()
                self._tell(f"no more attacks after {number - 1} of {len(attacks)}; now the run may finish")
                break
            self._tell(
                f"{number:3d} {attack.kind:26s} steps {outcome.start} to {outcome.reached}, lost {outcome.lost} "
                f"of {outcome.allowed}, ended in {outcome.end_s:.1f} s {outcome.note}"
            )
            self.outcomes.append(outcome)
        begin = time.monotonic()
        processes = Processes(self._command, self._log)
        processes.wait_for_end(WHOLE_S)
        if not (self._run / "DONE").exists():
            raise FaultError(f"not done, and nobody attacked it: {processes.last_words()}")
        self._note_recovery(processes)
        self.finish_s = time.monotonic() - begin
        return self.outcomes

    def _attacked(self, attack: Attack) -> Outcome:
        run = self._run
        noted = sizes(run)
        before = last_attempt(run)
        number = (before["attempt"] if before else 0) + 1
        saved = newest_intact(run)
        processes = Processes(self._command, self._log)
        try:
            wait_for_moment(attack, processes, run, number, self._start_up_s)
            struck = strike(attack, processes, run, self._disk)
            processes.wait_for_end(END_S)
            ended = time.time()
        finally:
            processes.kill_all()
        start = last_attempt(run)
        began = start is not None and start["attempt"] == number
        first = start["step"] if began else saved  # type: ignore[index]
        if first != saved:
            raise FaultError(f"the attempt began at step {first}, the newest sound checkpoint was of step {saved}")
        last = reached(run, noted)
        last = saved if last is None else last
        self._note_recovery(processes, number)
        if attack.kind == "disk full" and attack.where < 0.5:
            self._start_on_full_disk()
        note = afterwards(attack, run, self._disk)
        allowed = most_lost(attack.kind, first, last)
        return Outcome(
            attack,
            number if began else None,
            first,
            last,
            newest_intact(run),
            allowed,
            round(struck, 3),
            round(ended - struck, 2),
            note=note,
        )

    def _start_on_full_disk(self) -> None:
        """An attempt that cannot do anything has to end by itself and leave all as it was."""
        Processes(self._command, self._log).wait_for_end(END_S)

    def _note_recovery(self, processes: Processes, number: int | None = None) -> None:
        """When the attempt that has ended made its first step, the attack before it was overcome."""
        first = first_step_of(self._run, number)
        if first is None:
            return
        self._start_up_s = first - processes.began
        if self.outcomes and self.outcomes[-1].recovery_s is None:
            self.outcomes[-1].recovery_s = round(first - self.outcomes[-1].struck, 2)


def first_step_of(run: Path, attempt: int | None) -> float | None:
    """Unix time of an attempt's first point behind its start; of the last attempt, when none is given."""
    start = last_attempt(run)
    if start is None or (attempt is not None and start["attempt"] != attempt):
        return None
    own = [row for row in read_lines(run / METRICS_FILE) if row["attempt"] == start["attempt"]]
    return next((row["time"] for row in own if row["step"] > start["step"]), None)
