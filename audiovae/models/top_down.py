"""The parts of the top-down network of an HVAE: its levels, its learned start, and the balance of the levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from audiovae.layers import gaussian
from audiovae.layers.latent_scale import Scale
from audiovae.layers.trunk import TrunkConfig, project, residual_stack, silent_head
from audiovae.results import Statistics

# Initial log scale of the finest level's posterior, as in the VAE. The posteriors of the other levels start as wide as
# their priors.
FINEST_START = -5.0
# Decay of the running divergences that balance the levels, and a floor so that an unused level keeps a weight (NVAE).
BALANCE_DECAY = 0.95
BALANCE_FLOOR = 0.01


@dataclass
class Level:
    """The result of one level in a pass; all [B, latent, frames] float32.

    Attributes:
        latents: The latents passed to the next level.
        shift, log_scale: The posterior relative to the prior; None if no posterior was used.
        bands: Levels of the upper bands [B, bands, frames] that this level and the coarser ones give, if they do.
    """

    latents: Tensor
    shift: Tensor | None = None
    log_scale: Tensor | None = None
    bands: Tensor | None = None

    def divergence(self) -> Tensor:
        """The KL divergence of the posterior from the prior, [B, latent, frames] nats; there must be a posterior."""
        assert self.shift is not None, "drawn from the prior"
        assert self.log_scale is not None, "drawn from the prior"
        return gaussian.kl_of_residual(self.shift, self.log_scale)


class TopDownLevel(nn.Module):
    """One level of the top-down network: prior, posterior, and the effect of its latents on the state [B, C, T]."""

    def __init__(self, width: int, latent: int, trunk: TrunkConfig, finest: bool) -> None:
        super().__init__()
        self.prior = silent_head(width, 2 * latent)
        causal = trunk.causal
        self.mix = nn.Sequential(project(2 * width, width, causal), residual_stack(width, 1, trunk.kernel, causal))
        self.shift = project(width, latent, causal)
        self.log_scale = silent_head(width, latent, self.start_of(finest))
        self.enter = project(latent, width, causal)
        self.after = residual_stack(width, trunk.blocks, trunk.kernel, causal)
        if not finest:
            # The posterior starts as wide as the prior, so noise enters only as far as training finds it useful. The
            # mean starts at full scale: at a tenth of it, the noise dominated and the level was never used.
            nn.init.zeros_(self.enter.weight)

    def start_of(self, finest: bool) -> float:
        """What the head of the posterior's log scale begins with."""
        return FINEST_START if finest else 0.0

    def prior_of(self, state: Tensor, scale: Scale | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of p(z_l | z_>l), each [B, latent, T].

        Args:
            state: [B, C, T].
            scale: Of a `ScaledLevel`, its `scale_of`.
        """
        mean, log_variance = self.prior(state).float().chunk(2, dim=1)
        return mean, gaussian.bounded_log_variance(log_variance)

    def posterior_of(self, state: Tensor, features: Tensor, scale: Scale | None = None) -> tuple[Tensor, Tensor]:
        """Shift and log scale of q(z_l | x, z_>l) relative to the prior, each [B, latent, T]."""
        mixed = self.mix(torch.cat([features, state], dim=1))
        return self.shift(mixed).float(), gaussian.bounded_log_variance(self.log_scale(mixed))

    def absorb(self, state: Tensor, latents: Tensor) -> Tensor:
        """The state [B, C, T] after adding the level's latents [B, latent, T]."""
        return self.after(state + self.enter(latents.to(state.dtype)))


class ScaledLevel(TopDownLevel):
    """A level whose scale follows from levels of bands: they begin the prior's deviation and the posterior's.

    See `Scale` for both. They follow from the state above. The decoder knows the noise too, so files quantise each
    latent in steps of its own noise.
    """

    def start_of(self, finest: bool) -> float:
        """The levels alone begin the noise."""
        return 0.0

    def scale_of(self, state: Tensor, power: Tensor, ratio: Tensor) -> Scale:
        """The scale that a state [B, C, T] and levels of bands give.

        Args:
            state: Above this level.
            power, ratio: Of `audiovae.layers.latent_scale.LatentScale`.
        """
        mean, correction = self.prior(state).float().chunk(2, dim=1)
        return Scale.bounded(power + correction, ratio + self.log_scale(state).float(), mean)

    def prior_of(self, state: Tensor, scale: Scale | None = None) -> tuple[Tensor, Tensor]:
        """See `TopDownLevel`."""
        assert scale is not None, "a scaled level needs levels"
        return cast(Tensor, scale.mean), scale.log_variance

    def posterior_of(self, state: Tensor, features: Tensor, scale: Scale | None = None) -> tuple[Tensor, Tensor]:
        """See `TopDownLevel`."""
        assert scale is not None, "a scaled level needs levels"
        return scale.relative(self.shift(self.mix(torch.cat([features, state], dim=1))).float()), scale.ratio


class Balance(nn.Module):
    """Factors [L] on the levels' divergences, with a mean of 1, that let weak levels grow during the warm-up.

    The factor of a level is proportional to its running divergence per latent value (Vahdat and Kautz 2020, "NVAE",
    appendix A, in the form of their published code). So the KL weight of a level with a low divergence is low. After
    `steps` optimizer steps all factors are 1.
    """

    def __init__(self, sizes: Sequence[int], steps: int) -> None:
        """`sizes`: latent values per item on each level; `steps`: length of the warm-up."""
        super().__init__()
        self.steps = steps
        with torch.device("cpu"):  # values also in a model on the device "meta"; from the settings, so in no file
            self.sizes = nn.Buffer(torch.tensor(list(sizes)), persistent=False)
        self.running = nn.Buffer(torch.zeros(len(sizes)))  # nats per value
        self.factors = nn.Buffer(torch.ones(len(sizes)))

    @torch.no_grad()
    def update(self, statistics: Statistics, step: int) -> None:
        """Updates the factors for the next step with the divergences of a whole global batch."""
        spent, items = statistics.sums["kl"], statistics.sums["items"]
        now = spent / items.clamp_min(1) / self.sizes.to(spent.device)
        running = now if step <= 1 else self.running.lerp(now, 1 - BALANCE_DECAY)
        wanted = running + BALANCE_FLOOR
        factors = wanted / wanted.mean() if step < self.steps else torch.ones_like(wanted)
        finite = now.isfinite().all()
        self.running.copy_(torch.where(finite, running, self.running))
        self.factors.copy_(torch.where(finite, factors, self.factors))


class LearnedStart(nn.Module):
    """The learned state above the coarsest level. It is a module, because ZeRO gathers parameters by module."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.state = nn.Parameter(torch.zeros(1, width, 1))

    def forward(self, items: int, frames: int) -> Tensor:
        """[items, C, frames]."""
        return self.state.expand(items, -1, frames)
