"""What is ahead of a run: time, saves, jobs, space. Pure functions."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Forecast:
    """What a run still takes.

    Attributes:
        seconds: Of training, saves included.
        saves: Checkpoints until the end.
        jobs: Jobs after the running one, or None where jobs have no limit.
        lead_s: Seconds before a job's end at which it should be told, for `--signal=B:USR2@N`.
    """

    seconds: float
    saves: int
    jobs: int | None
    lead_s: int


def forecast(
    steps: int, step_s: float, every: int, save_s: float, left_s: float | None = None, job_s: float | None = None
) -> Forecast:
    """Looks ahead.

    Args:
        steps: Still to be made.
        step_s: Seconds a step.
        every: Steps between saves.
        save_s: Seconds a save; it runs beside the training, so that only the last one is waited for.
        left_s: Seconds that the running job has left; None without a limit.
        job_s: Seconds a job lasts.
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
    """Seconds that stopping takes at most, doubled and rounded up to half minutes.

    The script looks every 2 s, the processes agree within two steps, a save may be under way and another one follows,
    and requeueing takes a few seconds.
    """
    return max(60, 30 * math.ceil(2 * (2 + 2 * step_s + 2 * save_s + 5) / 30))


def room_needed(size: int, present: int, newest: int, best: bool) -> int:
    """Bytes that must be free for checkpoints of `size` bytes when `present` are there already.

    Those that stay, and the one being written before an older one goes. Those of `keep_every` come on top, over weeks.
    """
    return max(1, newest + best + 1 - present) * size


def duration(seconds: float) -> str:
    """12 s, 3 min, 4.5 h, 2.1 d."""
    for size, unit, digits in ((86400, "d", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 2 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
