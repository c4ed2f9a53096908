"""How often to save: what a run loses to saves and to failures, and the interval that loses least."""

import math
from dataclasses import dataclass

from train.runs.forecast import duration

# Hours of one GPU between failures that end a job, as planners assume for large clusters. The 16,384 GPUs of Llama 3
# (Meta 2024, "The Llama 3 Herd of Models", table 5) had 419 unexpected interruptions in 54 days: 50,000 hours.
GPU_HOURS = 10_000.0
# Seconds from a failure to the next step: the requeue, the start of Python and the data, the checkpoint.
RESTART_S = 300.0


@dataclass(frozen=True)
class Plan:
    """What a run loses to failures.

    Attributes:
        failure_s: Mean seconds between failures of the whole job.
        best_s: Seconds between saves that lose least.
        goodput: Share of the time that counts, with saves every best_s seconds.
    """

    failure_s: float
    best_s: float
    goodput: float


def plan(processes: int, stall_s: float, write_s: float, gpu_hours: float = GPU_HOURS) -> Plan:
    """The best interval between saves (Daly 2006, "A higher order estimate of the optimum checkpoint interval").

    Training waits only while the state is copied to host memory, so that is the cost of a save. The thread that writes
    it makes what a failure loses longer, and sets the shortest interval.

    Args:
        processes: GPUs, or processes on CPUs.
        stall_s: Seconds that training waits for a save.
        write_s: Seconds until the checkpoint is on disk.
        gpu_hours: Hours of one GPU between failures.
    """
    failure_s = gpu_hours * 3600 / processes
    best_s = max(daly(stall_s, failure_s), write_s, 1.0)
    return Plan(failure_s, best_s, goodput(best_s, stall_s, write_s, failure_s))


def daly(cost_s: float, failure_s: float) -> float:
    """Seconds of work between saves that lose least: Daly's equation 37; its first term is that of Young (1974)."""
    if cost_s >= 2 * failure_s:
        return failure_s
    ratio = cost_s / (2 * failure_s)
    return math.sqrt(2 * cost_s * failure_s) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - cost_s


def goodput(interval_s: float, stall_s: float, write_s: float, failure_s: float, restart_s: float = RESTART_S) -> float:
    """Share of the time that is neither spent on saves, nor on restarts, nor on steps that a failure discards.

    A failure discards half an interval and what was trained while the newest checkpoint was written. To first order
    in interval / failure.
    """
    lost = stall_s / (interval_s + stall_s) + (interval_s / 2 + write_s + restart_s) / failure_s
    return max(0.0, 1 - lost)


def advice(processes: int, stall_s: float, write_s: float, step_s: float | None, every: int) -> str:
    """A line of the preflight check: the best interval between saves, and the numbers behind it.

    Args:
        processes: GPUs, or processes on CPUs.
        stall_s: Seconds that training waits for a save, as measured.
        write_s: Seconds of the whole save, as measured.
        step_s: Seconds of a step; None when it is not known yet.
        every: The setting checkpoint.every, in steps.
    """
    best = plan(processes, stall_s, write_s)
    line = f"save about every {duration(best.best_s)}"
    if step_s:
        line += f" (--checkpoint.every {max(1, round(best.best_s / step_s)):,}; now {every:,})"
    what = "process" if processes == 1 else "processes"
    line += (
        f": {processes:,} {what} with {GPU_HOURS:,.0f} h between failures of each fail once in "
        f"{duration(best.failure_s)}, a save holds training up for {stall_s:.2g} s and is written in {write_s:.2g} s; "
        f"then {100 * best.goodput:.1f} % of the time counts"
    )
    if step_s:
        now = goodput(max(every * step_s, write_s), stall_s, write_s, best.failure_s)
        line += f", with the present setting {100 * now:.1f} %"
    return line
