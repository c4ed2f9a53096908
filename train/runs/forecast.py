"""What a run still needs: time, saves, jobs, disk space; and warnings about its length. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from train.config import OptimConfig, RunConfig, flat
from train.runs.settings_history import Change

# A learning rate that rises by more than this factor from one step to the next is a jump.
JUMP = 1.5


@dataclass(frozen=True)
class Forecast:
    """What a run still needs.

    Attributes:
        seconds: Seconds of training, with the last save.
        saves: Number of checkpoints until the end.
        jobs: Number of jobs after the running one, or None when jobs have no time limit.
        lead_s: Seconds before the job's end at which Slurm should signal it, for `--signal=B:USR2@N`.
    """

    seconds: float
    saves: int
    jobs: int | None
    lead_s: int


def forecast(
    steps: int, step_s: float, every: int, save_s: float, left_s: float | None = None, job_s: float | None = None
) -> Forecast:
    """Computes what a run still needs.

    Args:
        steps: Steps left.
        step_s: Seconds per step.
        every: Steps between saves.
        save_s: Seconds per save; saves run in parallel with training, so only the last one adds to the time.
        left_s: Seconds that the running job has left; None without a limit.
        job_s: Time limit of a job in seconds; None without a limit.
    """
    seconds = steps * step_s + save_s
    lead = lead_s(step_s, save_s)
    jobs = None
    if left_s is not None and job_s is not None:
        rest = max(0.0, seconds - max(0.0, left_s - lead))
        useful = job_s - lead
        jobs = 0 if not rest else math.ceil(rest / useful) if useful > 0 else None
    return Forecast(seconds, math.ceil(steps / every), jobs, lead)


def lead_s(step_s: float, save_s: float) -> int:
    """Twice the longest time that stopping takes, rounded up to half minutes; at least 60 s.

    The script checks every 2 s, the processes agree within two steps, a running save and the last one must finish, and
    requeueing takes up to 5 s.
    """
    return max(60, 30 * math.ceil(2 * (2 + 2 * step_s + 2 * save_s + 5) / 30))


def room_needed(size: int, present: int, newest: int, best: bool) -> int:
    """Bytes that must be free for checkpoints of `size` bytes.

    Counts the checkpoints to keep, and one more that is written before an older one is deleted; those of
    `checkpoint.keep_every` are not counted.

    Args:
        size: Bytes of a checkpoint.
        present: Number of checkpoints on disk.
        newest: Number of newest checkpoints to keep.
        best: Whether the best one is kept too.
    """
    return max(1, newest + best + 1 - present) * size


def warmup_warnings(config: RunConfig) -> list[str]:
    """One line when the run ends before a warm-up does, so that it never trains with its final settings; else none."""
    ends = {"optim.warmup_steps": config.optim.warmup_steps}
    if hasattr(config.weights, "kl"):  # type: ignore[attr-defined]
        ends["kl_warmup"] = config.kl_warmup.start + config.kl_warmup.steps
    longer = [f"{name} ends at step {step:,}" for name, step in ends.items() if step >= config.optim.steps]
    if not longer:
        return []
    return [
        f"warning: optim.steps is {config.optim.steps:,}, but {' and '.join(longer)}: the run ends during its warm-up; "
        "raise optim.steps or shorten the warm-up"
    ]


def rate_jump(config: RunConfig, changes: Sequence[Change], step: int) -> str:
    """A line when a run that was made longer continues at a much higher learning rate; else empty.

    Args:
        config: The settings from now on.
        changes: The changes of settings that take effect now.
        step: Steps done.
    """
    before = dict(flat(config.optim, "optim."))
    for change in changes:
        before |= {key: values[0] for key, values in change.settings.items() if key in before}
    if before["optim.steps"] == config.optim.steps or not step:
        return ""
    try:
        known = {key.removeprefix("optim."): value for key, value in before.items() if value is not None}
        last, now = OptimConfig(**known).rate_at(step - 1), config.optim.rate_at(step)
    except (TypeError, ValueError):  # the record of another version
        return ""
    if now <= JUMP * last or config.optim.cycle_from == step:
        return ""
    return (
        f"warning: optim.steps was {before['optim.steps']:,} and is {config.optim.steps:,}: the schedule is laid anew "
        f"over all steps, and the learning rate jumps from {last:.3g} to {now:.3g} without a warm-up. To go on at the "
        f"last rate, stop, and pass --optim.hold_from {step}; for a new cycle with warm-up, --optim.cycle_from {step}"
    )


def duration(seconds: float) -> str:
    """Seconds as 12 s, 3 min, 4.5 h or 2.1 d."""
    for size, unit, digits in ((86400, "d", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 2 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
