"""Diagonal Gaussians: divergence, sampling, free bits. All in float32."""

from torch import Tensor

# exp(-12 / 2) = 0.0025: a posterior sharper than this says nothing more about 16-bit audio.
LOG_VARIANCE_RANGE = (-12.0, 4.0)


def bounded_log_variance(raw: Tensor) -> Tensor:
    """Log variance within bounds that keep exp() and its gradient finite."""
    return raw.float().clamp(*LOG_VARIANCE_RANGE)


def draw(mean: Tensor, log_variance: Tensor, normal: Tensor) -> Tensor:
    """mean + deviation * normal (Kingma and Welling 2014, section 2.4); all of one shape."""
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
    """Divergence of each item, never less than `free` nats: no reward for going below (Kingma et al. 2016).

    The floor is taken item by item, so the mean over a batch is the same however the batch is divided.

    Args:
        kl: [B, ...] nats.
        free: Nats an item may spend at no cost.

    Returns:
        [B] nats.
    """
    return kl.flatten(1).sum(1).clamp_min(free)


def with_free_nats_by_channel(kl: Tensor, free: float) -> Tensor:
    """Divergence of each item, where each channel has an equal share of the `free` nats and never counts as less.

    A floor for each group of latents is how Kingma et al. 2016 ("Inverse autoregressive flow", appendix C.8)
    give free bits. With one floor for the whole level a few channels may spend everything and the others collapse.
    The floor is taken item by item, so the mean over a batch is the same however the batch is divided.

    Args:
        kl: [B, D, T] nats.
        free: Nats an item may spend at no cost, over all D channels.

    Returns:
        [B] nats.
    """
    return kl.sum(2).clamp_min(free / kl.shape[1]).sum(1)
