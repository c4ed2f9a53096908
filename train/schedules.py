"""Learning rate and loss weights as pure functions of the optimizer step."""

import math
from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import NonNegativeInt


@dataclass
class Ramp:
    """A rise from 0 to 1.

    Attributes:
        start: Step at which it leaves 0.
        steps: Steps until it reaches 1; 0 means at once.
        shape: Its curve.
    """

    start: NonNegativeInt = 0
    steps: NonNegativeInt = 1000
    shape: Literal["linear", "cosine"] = "linear"

    def at(self, step: int) -> float:
        """The value in [0, 1] at a step."""
        if step >= self.start + self.steps:
            return 1.0
        if step <= self.start:
            return 0.0
        share = (step - self.start) / self.steps
        return share if self.shape == "linear" else 0.5 * (1.0 - math.cos(math.pi * share))


def learning_rate(step: int, peak: float, warmup: int, total: int, final_share: float) -> float:
    """Linear warm-up, then half a cosine to `final_share` of the peak (Loshchilov and Hutter 2017).

    Args:
        step: From 0.
        peak: The highest rate.
        warmup: Steps of warm-up; the first step has peak / warmup.
        total: Steps of the run; later steps keep the final rate.
        final_share: In [0, 1].
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * share)))


def ema_decay(step: int, longest: float) -> float:
    """Decay of averaged weights: short at first, so that the average forgets the start."""
    return min(longest, (1 + step) / (10 + step))
