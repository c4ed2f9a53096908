"""Variance-adaptive commitment: a commitment loss that does not depend on the scale of the latents.

The commitment loss measures distances to the codes in units of the latents' variance S, so that the encoder gains
nothing by shrinking its output. The anchor loss keeps S near its value at the start of the codebooks.
"""

import torch
from torch import Tensor

# Lower bound of variances: that of noise at -80 dBFS, below the level of any training recording.
TINY = 1e-8


def effective_beta(variance: Tensor, reference: Tensor, commitment: str, largest: float) -> Tensor:
    """The commitment weight in units of beta_0, a scalar: S_start / S if adaptive, 1 if fixed, 0 if none.

    Args:
        variance: S, a scalar.
        reference: S_start, the variance when the codebooks started.
        commitment: "adaptive", "fixed" or "none".
        largest: Upper bound of the result, for a variance that collapses.
    """
    if commitment != "adaptive":
        return torch.full_like(variance, float(commitment == "fixed"))
    return (reference / variance.clamp_min(TINY)).clamp_max(largest)


def anchor(vectors: Tensor, mean: Tensor, variance: Tensor, reference: Tensor, steepest: float) -> Tensor:
    """The anchor loss log(S / S_start)^2 of each item, [B]. It pulls S to its value at the start of the codebooks.

    The gradient is taken at the running S and mean. There it is linear in the items, so it does not depend on how a
    batch is divided over processes.

    Args:
        vectors: [B, T, D], with a gradient.
        mean: [D], the running mean.
        variance: S, the running variance, a scalar.
        reference: S_start, a scalar.
        steepest: Bound of the derivative by S / S_start, which would be infinite for a collapsed variance.
    """
    start = reference.clamp_min(TINY)
    ratio = variance.clamp_min(TINY) / start
    slope = (2 * ratio.log() / ratio).clamp(-steepest, steepest) / start
    spread = (vectors - mean).square().flatten(1).mean(1)
    return ratio.log().square() + slope * (spread - spread.detach())
