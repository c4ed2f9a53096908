"""Learning rate and loss weights as pure functions of the optimizer step."""

import math
from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import NonNegativeInt, PositiveInt

# The logarithmic rise log(1 + 9 s) / log(10) reaches one half after a quarter of the steps.
LOG_BASE = 10.0


@dataclass
class Ramp:
    """A rise from 0 to 1.

    Attributes:
        start: Step at which the rise begins.
        steps: Steps of the rise, after which the value stays at 1; 0 means no rise: the value is 1 from `start` on.
        shape: Curve of the rise. `log` rises fast, then slowly; `cyclical` repeats a linear rise (Fu et al. 2019).
        cycles: Number of rises of a cyclical ramp.
        rising: Share of a cycle that rises, in (0, 1]; the rest of the cycle stays at 1.
    """

    start: NonNegativeInt = 0
    steps: NonNegativeInt = 1000
    shape: Literal["linear", "cosine", "log", "cyclical"] = "linear"
    cycles: PositiveInt = 4
    rising: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.rising <= 1:
            raise ValueError(f"rising is {self.rising}: it must be above 0 and at most 1")

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
            # Integers: the share times the number of cycles could round to just below a whole cycle.
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
    """Learning rate at a step: linear warm-up, then a cosine decay, or a constant rate with a linear decay at the end.

    The cosine decay is that of Loshchilov and Hutter 2017. The constant rate with a decay is the trapezoid of Zhai
    et al. 2022 ("Scaling Vision Transformers"): a run can be extended until its decay begins.

    Args:
        step: Optimizer step, from 0.
        peak: The highest rate.
        warmup: Steps of warm-up; the rate of the first step is peak / warmup.
        total: Steps of the run; later steps keep the final rate.
        final_share: The final rate as a share of the peak, in [0, 1].
        schedule: "cosine" or "constant".
        decay_share: Share of the run's steps over which a constant rate decays at the end, in [0, 1].
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    first = warmup if schedule == "cosine" else max(warmup, total - round(decay_share * total))
    share = min(1.0, max(0.0, (step - first) / max(1, total - first)))
    fallen = 0.5 * (1 - math.cos(math.pi * share)) if schedule == "cosine" else share
    return peak * (1 - (1 - final_share) * fallen)


def ema_decay(step: int, longest: float) -> float:
    """Decay of the averaged weights at a step: small at first, so that the average forgets the initial weights."""
    return min(longest, (1 + step) / (10 + step))
