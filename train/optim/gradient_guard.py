"""Which steps to skip: those whose gradient is not finite, or far longer than gradients of this run are."""

import math

import torch
from torch import Tensor

# Of the running mean of log norms. With a factor of 10 a norm that rises by 1000 for good is typical again after
# about 50 steps, the default of `optim.skip_limit`; a single one moves the mean by a tenth at most.
DECAY = 0.98
# Norms that must have been seen before one can be too long.
GRACE = 50


class GradientGuard:
    """Tells exploding gradients by their norm against the typical one: the exponential of a mean of logarithms.

    All on the device, and a function of norms that are the same in all processes: so are its answers. Norms that
    were refused move the mean too, as if they were at most the factor's square times the typical one: so it
    follows a run whose norm changes for good, and a single explosion hardly moves it.

    Attributes:
        factor: How many times the typical norm is too long; 0 means never.
        state: [2] float32, the mean of log norms and how many were seen: part of a checkpoint.
        exploded: Whether the last norm was finite but refused: bool scalar.
    """

    def __init__(self, factor: float, device: torch.device) -> None:
        self.factor = factor
        self.state = torch.zeros(2, device=device)
        self.exploded = torch.zeros((), dtype=torch.bool, device=device)

    @torch.no_grad()
    def rejects(self, norm: Tensor) -> Tensor:
        """Takes in the norm of a step, once; whether the step is to be skipped, as a bool scalar."""
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
