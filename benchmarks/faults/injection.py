"""Injects a fault into a running attempt."""

import os
import signal
import time
from pathlib import Path

from benchmarks.faults import corruption
from benchmarks.faults.disk import Disk
from benchmarks.faults.observation import last_point
from benchmarks.faults.plan import DAMAGING, WITHOUT_WANDB, Fault
from benchmarks.faults.processes import Processes, kill
from benchmarks.faults.target import STEP_S, Attempt, Target

HALT_S = 2.0  # of a process, the delay that `fraction` is a share of
LIMIT_S = 300  # generous, for busy machines
WANDB_S = 100  # less than the watchdog's limit
RANKS = {"kill rank 0": (0,), "kill rank 1": (1,), "kill all ranks": (0, 1)}
AT_START_UP = (*RANKS, "kill the launcher", "kill everything")


def wait_for_moment(fault: Fault, processes: Processes, target: Target, attempt: Attempt, start_up_s: float) -> None:
    """Waits until the attempt reaches the moment of the fault."""
    if fault.moment == "start-up":
        time.sleep(fault.fraction * start_up_s)
        return
    what = f"{fault.steps} {target.unit} of the attempt"
    processes.wait_until(lambda: attempt.made() >= fault.steps, LIMIT_S, what)
    if fault.moment == "save":
        processes.find_targets()
        since = time.time()
        processes.wait_until(lambda: attempt.is_saving(since), LIMIT_S, "a save")
    time.sleep(fault.fraction * (target.save_s if fault.moment == "save" else STEP_S))


def inject(fault: Fault, processes: Processes, run: Path, disk: Disk, ranks: int) -> float:
    """Injects the fault and returns the Unix time; `finish` does the part that must wait for the end of the attempt."""
    kind = AT_START_UP[int(fault.where * len(AT_START_UP))] if fault.moment == "start-up" else fault.kind
    injected = time.time()
    if kind in RANKS:
        numbers = [number for number in RANKS[kind] if number < ranks] or [0]
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
    elif kind == "halt and kill":
        injected = _halt_and_kill(processes, int(fault.where * ranks), fault.fraction * HALT_S)
    elif kind == "disk full":
        disk.fill()
    elif kind == "kill W&B":
        injected = _kill_wandb(processes, run)
    else:
        processes.kill_all()
    return injected


def finish(fault: Fault, target: Target, disk: Disk) -> str:
    """Applies the part of a fault that follows the end of all processes; returns a description."""
    if fault.kind in DAMAGING:
        act = corruption.flip if fault.kind == "flip a bit" else corruption.cut
        return act(target.damageable(), fault.where, fault.fraction)
    if fault.kind == "disk full":
        disk.free()
    return ""


def _halt_and_kill(processes: Processes, rank: int, seconds: float) -> float:
    """Halts a process, so that the others wait for it, and kills it some seconds later."""
    halted = processes.rank(rank)
    for process in halted:
        os.kill(process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    injected = time.time()
    for process in halted:
        kill(process.pid)
    return injected


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
