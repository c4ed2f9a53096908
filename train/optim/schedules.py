"""Learning rate and loss weights as pure functions of the optimizer step."""

import math
from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import NonNegativeInt, PositiveInt

# The logarithmic rise: log(1 + 9 s) / log(10), of which half is done after a quarter of the steps.
LOG_BASE = 10.0


@dataclass
class Ramp:
    """A rise from 0 to 1.

    Attributes:
        start: Step at which it leaves 0.
        steps: Steps until it reaches 1 for good; 0 means at once.
        shape: Its curve. log rises fast, then slowly; cyclical rises again and again, linearly (Fu et al. 2019).
        cycles: How often a cyclical ramp rises.
        rising: Share of a cycle that rises, in (0, 1]; the rest stays at 1.
    """

    start: NonNegativeInt = 0
    steps: NonNegativeInt = 1000
    shape: Literal["linear", "cosine", "log", "cyclical"] = "linear"
    cycles: PositiveInt = 4
    rising: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.rising <= 1:
            raise ValueError(f"rising is {self.rising}: above 0, at most 1")

    def at(self, step: int) -> float:
        """The value in [0, 1] at a step."""
        if step >= self.start + self.steps:
            return 1.0
        if step <= self.start:
            return 0.0
        share = (step - self.start) / self.steps
        if self.shape == "cosine":
            return 0.5 * (1.0 - math.cos(math.pi * share))
        if self.shape == "log":
            return math.log1p((LOG_BASE - 1) * share) / math.log(LOG_BASE)
        if self.shape == "cyclical":
            # Whole numbers: a share times the cycles could round to just below a whole cycle.
            place = (step - self.start) * self.cycles % self.steps / self.steps
            return min(1.0, place / self.rising)
        return share


def learning_rate(
    step: int,
    peak: float,
    warmup: int,
    total: int,
    final_share: float,
    schedule: str = "cosine",
    decay_share: float = 0.2,
) -> float:
    """Linear warm-up, then half a cosine (Loshchilov and Hutter 2017), or a constant and a linear decay at the end.

    The latter is the trapezoid of Zhai et al. 2022 ("Scaling Vision Transformers"): a run may be made longer as
    long as its decay has not begun.

    Args:
        step: From 0.
        peak: The highest rate.
        warmup: Steps of warm-up; the first step has peak / warmup.
        total: Steps of the run; later steps keep the final rate.
        final_share: The last rate as a share of the peak, in [0, 1].
        schedule: "cosine" or "constant".
        decay_share: Share of the run's steps that a constant rate's decay takes, in [0, 1].
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    first = warmup if schedule == "cosine" else max(warmup, total - round(decay_share * total))
    share = min(1.0, max(0.0, (step - first) / max(1, total - first)))
    fallen = 0.5 * (1 - math.cos(math.pi * share)) if schedule == "cosine" else share
    return peak * (1 - (1 - final_share) * fallen)


def ema_decay(step: int, longest: float) -> float:
    """Decay of averaged weights: short at first, so that the average forgets the start."""
    return min(longest, (1 + step) / (10 + step))
