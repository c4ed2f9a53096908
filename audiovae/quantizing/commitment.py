"""Variance-adaptive commitment: what holds the encoder near its codes, and its scale where the codebooks found it.

Distances to the codes count in units of the latents' variance S, so that an encoder gains nothing by shrinking;
the anchor holds S, so that it gains nothing by growing either.
"""

import torch
from torch import Tensor

# Variances below it count as this: that of noise at -80 dBFS, below any level at which recordings are trained on.
TINY = 1e-8


def effective_beta(variance: Tensor, reference: Tensor, commitment: str, largest: float) -> Tensor:
    """Commitment in units of beta_0: when adaptive 1 as the codebooks start, then S_start / S.

    Args:
        variance: S, a scalar.
        reference: S_start, what it was when the codebooks started.
        commitment: "adaptive"; "fixed" gives 1 and "none" 0 at any S.
        largest: Bound; a variance that collapses counts as S_start / largest.
    """
    if commitment != "adaptive":
        return torch.full_like(variance, float(commitment == "fixed"))
    return (reference / variance.clamp_min(TINY)).clamp_max(largest)


def anchor(vectors: Tensor, mean: Tensor, variance: Tensor, reference: Tensor, steepest: float) -> Tensor:
    """log(S / S_start)^2 for each item, which pulls S to where it was when the codebooks started: [B].

    Its gradient is taken at the running S and mean, where it is linear in the items, so that it does not depend on
    how a batch is divided over processes.

    Args:
        vectors: [B, T, D], with a gradient.
        mean: [D], running.
        variance: S, running, a scalar.
        reference: S_start.
        steepest: Bound of the slope by S / S_start, which a collapsed variance would make endless.
    """
    start = reference.clamp_min(TINY)
    ratio = variance.clamp_min(TINY) / start
    slope = (2 * ratio.log() / ratio).clamp(-steepest, steepest) / start
    spread = (vectors - mean).square().flatten(1).mean(1)
    return ratio.log().square() + slope * (spread - spread.detach())
