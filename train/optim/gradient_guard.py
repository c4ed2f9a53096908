"""Which steps to skip: those whose gradient norm is not finite, or far above the run's typical norm."""

import math

import torch
from torch import Tensor

# Decay of the running mean of log norms. With a factor of 10, a norm that rises 1000-fold and stays there counts as
# typical after about 50 steps, the default of `optim.skip_limit`; a single large norm moves the typical norm by at
# most 10 %.
DECAY = 0.98
# Norms that the guard observes before it rejects any.
GRACE = 50


class GradientGuard:
    """Detects exploding gradients by comparing the norm with the typical norm, a running geometric mean.

    Everything stays on the device. The norms are the same on all processes, so the decisions are too. A rejected
    norm also moves the mean, clamped to factor^2 times the typical norm: the mean follows a run whose norm changes
    permanently, and a single explosion hardly moves it.

    Attributes:
        factor: Norms above `factor` times the typical norm are rejected; 0 means never.
        state: [2] float32, the mean of log norms and the number of norms observed; part of a checkpoint.
        exploded: Whether the last norm was finite but rejected: bool scalar.
    """

    def __init__(self, factor: float, device: torch.device) -> None:
        self.factor = factor
        self.state = torch.zeros(2, device=device)
        self.exploded = torch.zeros((), dtype=torch.bool, device=device)

    @torch.no_grad()
    def rejects(self, norm: Tensor) -> Tensor:
        """Observes the norm of a step; returns whether to skip the step, as a bool scalar. Call it once a step."""
        finite = norm.isfinite()
        if not self.factor:
            return ~finite
        mean, seen = self.state
        log = norm.detach().float().clamp_min(1e-12).log()
        self.exploded = finite & (seen >= GRACE) & (log > mean + math.log(self.factor))
        bounded = torch.where(seen >= GRACE, torch.minimum(log, mean + 2 * math.log(self.factor)), log)
        decay = ((1 + seen) / (10 + seen)).clamp_max(DECAY)
        after = torch.stack([torch.where(seen > 0, mean * decay + bounded * (1 - decay), log), seen + 1])
        self.state = torch.where(finite, after, self.state)
        return ~finite | self.exploded
