"""Diagonal Gaussians in float32: KL divergence, sampling, free nats."""

from torch import Tensor

# A standard deviation of exp(-12 / 2) = 0.0025 is already sharp enough for 16-bit audio.
LOG_VARIANCE_RANGE = (-12.0, 4.0)


def bounded_log_variance(raw: Tensor) -> Tensor:
    """Clamps a log variance of any shape to LOG_VARIANCE_RANGE, which keeps exp() and its gradient finite."""
    return raw.float().clamp(*LOG_VARIANCE_RANGE)


def draw(mean: Tensor, log_variance: Tensor, normal: Tensor) -> Tensor:
    """The reparameterized sample mean + deviation * normal (Kingma and Welling 2014, section 2.4); all of one shape."""
    return mean + (0.5 * log_variance).exp() * normal


def kl_to_standard(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats, element by element (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)


def kl_of_residual(shift: Tensor, log_scale: Tensor) -> Tensor:
    """KL(q || p) in nats, element by element, for q given relative to p.

    With p = N(m, s^2) and q = N(m + s * shift, s^2 * exp(log_scale)) the divergence does not depend on p
    (Vahdat and Kautz 2020, "NVAE", equation 2).
    """
    return kl_to_standard(shift, log_scale)


def with_free_nats(kl: Tensor, free: float) -> Tensor:
    """KL divergence of each item, at least `free` nats, so that going below has no reward (Kingma et al. 2016).

    The floor applies to each item, so the mean over a batch does not depend on how the batch is divided.

    Args:
        kl: [B, ...] nats.
        free: Nats that each item may use at no cost.

    Returns:
        [B] nats.
    """
    return kl.flatten(1).sum(1).clamp_min(free)


def with_free_nats_by_channel(kl: Tensor, free: float) -> Tensor:
    """KL divergence of each item, with a floor of an equal share of the `free` nats for each channel.

    A floor for each group of latents is the form of free bits in Kingma et al. 2016 ("Inverse autoregressive flow",
    appendix C.8). With one floor for the whole level, a few channels may use all free nats while the others collapse.
    The floor applies to each item, so the mean over a batch does not depend on how the batch is divided.

    Args:
        kl: [B, D, T] nats.
        free: Nats that each item may use at no cost, over all D channels.

    Returns:
        [B] nats.
    """
    return kl.sum(2).clamp_min(free / kl.shape[1]).sum(1)
