"""Carrying out an attack on a running attempt."""

import os
import signal
import time
from pathlib import Path

from benchmarks.faults import corruption
from benchmarks.faults.disk import Disk
from benchmarks.faults.observation import is_saving, last_attempt, last_point
from benchmarks.faults.plan import WITHOUT_WANDB, Attack
from benchmarks.faults.processes import Processes, kill

STEP_S, SAVE_S = 0.1, 0.005  # what `fraction` is a part of
LIMIT_S = 300  # machines may be busy
WANDB_S = 100  # below the watchdog of the run
AT_START_UP = ("kill rank 0", "kill rank 1", "kill all ranks", "kill the launcher", "kill everything")


def wait_for_moment(attack: Attack, processes: Processes, run: Path, attempt: int, start_up_s: float) -> None:
    """Until the attempt with that number does what the attack is to meet it at."""
    if attack.moment == "start-up":
        time.sleep(attack.fraction * start_up_s)
        return

    def far_enough() -> bool:
        point, start = last_point(run), last_attempt(run)
        if point is None or start is None or start["attempt"] != attempt or point["attempt"] != attempt:
            return False
        return point["step"] - start["step"] >= attack.steps

    processes.wait_until(far_enough, LIMIT_S, f"{attack.steps} steps of attempt {attempt}")
    if attack.moment == "save":
        processes.take_aim()
        since = time.time()
        processes.wait_until(lambda: is_saving(run, since), LIMIT_S, "a save")
    time.sleep(attack.fraction * (SAVE_S if attack.moment == "save" else STEP_S))


def strike(attack: Attack, processes: Processes, run: Path, disk: Disk) -> float:
    """The blow itself; returns when it fell. What has to wait for the attempt's end is `afterwards`."""
    kind = AT_START_UP[int(attack.where * len(AT_START_UP))] if attack.moment == "start-up" else attack.kind
    struck = time.time()
    if kind in ("kill rank 0", "kill rank 1", "kill all ranks"):
        numbers = (0, 1) if kind == "kill all ranks" else (int(kind[-1]),)
        if attack.moment == "start-up":  # a blow that meets nobody ends nothing
            processes.wait_until(lambda: all(map(processes.rank, numbers)), LIMIT_S, f"rank {numbers}")
            struck = time.time()
        for number in numbers:
            for process in processes.rank(number):
                kill(process.pid)
    elif kind == "kill the launcher":
        kill(processes.launcher.pid)
    elif kind == "STOP":
        (run / "STOP").touch()
    elif kind == "TERM":
        os.kill(processes.launcher.pid, signal.SIGTERM)
    elif kind == "disk full":
        disk.fill()
    elif kind == "kill W&B":
        struck = _kill_wandb(processes, run)
    else:
        processes.kill_all()
    return struck


def afterwards(attack: Attack, run: Path, disk: Disk) -> str:
    """The part of an attack that comes when all processes have ended; says what it did."""
    if attack.kind == "cut the newest checkpoint":
        return corruption.cut(run / "checkpoints", attack.where, attack.fraction)
    if attack.kind == "flip a bit":
        return corruption.flip(run / "checkpoints", attack.where, attack.fraction)
    if attack.kind == "disk full":
        disk.free()
    return ""


def _kill_wandb(processes: Processes, run: Path) -> float:
    """Training has to go on without it; then a stop, as the run would be long."""
    # W&B starts beside the training, which would be far ahead by then: it waits for its other process meanwhile.
    halted = processes.rank(1)
    for process in halted:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        processes.wait_until(processes.wandb, WANDB_S, "wandb-core")
    finally:
        for process in halted:
            os.kill(process.pid, signal.SIGCONT)
    for process in processes.wandb():
        kill(process.pid)
    goal = last_point(run)["step"] + WITHOUT_WANDB  # type: ignore[index]
    processes.wait_until(lambda: last_point(run)["step"] >= goal, LIMIT_S, f"step {goal} without W&B")  # type: ignore
    struck = time.time()
    (run / "STOP").touch()
    return struck
