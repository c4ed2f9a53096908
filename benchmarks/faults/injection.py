"""Injects a fault into a running attempt."""

import os
import signal
import time
from pathlib import Path

from benchmarks.faults import corruption
from benchmarks.faults.disk import Disk
from benchmarks.faults.observation import is_saving, last_attempt, last_point
from benchmarks.faults.plan import WITHOUT_WANDB, Fault
from benchmarks.faults.processes import Processes, kill

STEP_S, SAVE_S = 0.1, 0.005  # the delays that `fraction` is a share of
LIMIT_S = 300  # generous, for busy machines
WANDB_S = 100  # less than the watchdog's limit
AT_START_UP = ("kill rank 0", "kill rank 1", "kill all ranks", "kill the launcher", "kill everything")


def wait_for_moment(fault: Fault, processes: Processes, run: Path, attempt: int, start_up_s: float) -> None:
    """Waits until the attempt with this number reaches the moment of the fault."""
    if fault.moment == "start-up":
        time.sleep(fault.fraction * start_up_s)
        return

    def far_enough() -> bool:
        point, start = last_point(run), last_attempt(run)
        if point is None or start is None or start["attempt"] != attempt or point["attempt"] != attempt:
            return False
        return point["step"] - start["step"] >= fault.steps

    processes.wait_until(far_enough, LIMIT_S, f"{fault.steps} steps of attempt {attempt}")
    if fault.moment == "save":
        processes.find_targets()
        since = time.time()
        processes.wait_until(lambda: is_saving(run, since), LIMIT_S, "a save")
    time.sleep(fault.fraction * (SAVE_S if fault.moment == "save" else STEP_S))


def inject(fault: Fault, processes: Processes, run: Path, disk: Disk) -> float:
    """Injects the fault and returns the Unix time; `finish` does the part that must wait for the end of the attempt."""
    kind = AT_START_UP[int(fault.where * len(AT_START_UP))] if fault.moment == "start-up" else fault.kind
    injected = time.time()
    if kind in ("kill rank 0", "kill rank 1", "kill all ranks"):
        numbers = (0, 1) if kind == "kill all ranks" else (int(kind[-1]),)
        if fault.moment == "start-up":  # killing a rank that has not started has no effect
            processes.wait_until(lambda: all(map(processes.rank, numbers)), LIMIT_S, f"rank {numbers}")
            injected = time.time()
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
        injected = _kill_wandb(processes, run)
    else:
        processes.kill_all()
    return injected


def finish(fault: Fault, run: Path, disk: Disk) -> str:
    """Applies the part of a fault that follows the end of all processes; returns a description."""
    if fault.kind == "cut the newest checkpoint":
        return corruption.cut(run / "checkpoints", fault.where, fault.fraction)
    if fault.kind == "flip a bit":
        return corruption.flip(run / "checkpoints", fault.where, fault.fraction)
    if fault.kind == "disk full":
        disk.free()
    return ""


def _kill_wandb(processes: Processes, run: Path) -> float:
    """Kills W&B, checks that training continues without it, and requests a stop to keep the run short."""
    # W&B starts concurrently. Rank 1 is halted until then, so that training does not run ahead.
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
    injected = time.time()
    (run / "STOP").touch()
    return injected
