"""Learned priors of a chunk's latents, in place of N(0, I): a mixture of Gaussians, and a normalising flow.

Both are trained with the autoencoder: the KL divergence is measured against them. So the latents that the encoder makes
and the latents that `sample` draws come closer to each other.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from audiovae.layers.noise import MIXERS, Noise

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
# Log deviations of the mixture, and log scales of a coupling, stay within these bounds, so that no density overflows.
WIDEST_LOG_DEVIATION = 6.0
WIDEST_LOG_SCALE = 2.0
# Uniform numbers stay so far from 0 and 1 when their logarithms are taken.
EDGE = 1e-6
# Frames that a coupling layer sees around each frame.
KERNEL = 5


@dataclass
class LatentPriorConfig:
    """The distribution that the KL divergence pulls the latents towards, and that `sample` draws from.

    Attributes:
        kind: normal is N(0, I). mixture is a learned mixture of Gaussians of a frame's latents (the baseline of Tomczak
            and Welling 2018, "VAE with a VampPrior"). flow is a normalising flow over all frames of a chunk, of affine
            coupling layers (Dinh et al. 2017, "Real NVP").
        components: Gaussians of the mixture.
        layers: Coupling layers of the flow.
        width: Hidden features of a coupling layer.
    """

    kind: Literal["normal", "mixture", "flow"] = "normal"
    components: int = 64
    layers: int = 6
    width: int = 128

    def __post_init__(self) -> None:
        if self.kind not in ("normal", "mixture", "flow"):
            raise ValueError(f"prior.kind is {self.kind}: choose normal, mixture or flow")
        for name, most in (("components", 1 << 14), ("layers", 1 << 6), ("width", 1 << 13)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise ValueError(f"prior.{name} is {value}: choose 1 to {most}")


class LatentPrior(nn.Module):
    """A learned distribution of latents [B, channels, frames]."""

    @abstractmethod
    def forward(self, latents: Tensor) -> Tensor:
        """The log density of latents [B, channels, frames] in nats, [B] float32."""

    @abstractmethod
    def sample(self, noise: Noise, frames: int, temperature: float) -> Tensor:
        """Draws latents: [n, channels, frames].

        Args:
            noise: The random numbers of n items.
            frames: Frames of a chunk.
            temperature: Factor on the standard deviation; 0 gives one sound, that of the centre.
        """

    def divergence(self, log_variance: Tensor, drawn: Tensor) -> Tensor:
        """KL(q || p) of a diagonal Gaussian posterior q from this prior p in nats, [B], by one draw.

        The entropy of q is exact, only the expectation of log p is estimated, without bias. So single values may be
        below zero.

        Args:
            log_variance: Of the posterior, [B, channels, frames].
            drawn: Latents drawn from it, [B, channels, frames].
        """
        entropy = (0.5 * log_variance + (0.5 + HALF_LOG_TAU)).flatten(1).sum(1)
        return -entropy - self(drawn)


class MixturePrior(LatentPrior):
    """Each frame comes from one of some Gaussians with diagonal covariance, independently of the other frames."""

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        # Small means at the start: the mixture begins close to N(0, I), and no two components are the same.
        self.mean = nn.Parameter(0.3 * torch.randn(components, channels))
        self.log_deviation = nn.Parameter(torch.zeros(components, channels))
        self.weight = nn.Parameter(torch.zeros(components))

    def forward(self, latents: Tensor) -> Tensor:
        """The log density in nats, [B]."""
        # (z - m)^2 / s^2 by its three parts: products of matrices, not a tensor [B, frames, components, channels].
        # They nearly cancel each other where a deviation is small, so they are in float64, which autocast leaves alone.
        frames = latents.double().transpose(1, 2)
        log_deviation, mean = self._log_deviation().double(), self.mean.double()
        precision = (-2 * log_deviation).exp()
        squares = frames.square() @ precision.T - 2 * frames @ (precision * mean).T + (precision * mean.square()).sum(1)
        constant = log_deviation.sum(1) + HALF_LOG_TAU * frames.shape[2]
        each = self.weight.double().log_softmax(0) - 0.5 * squares - constant
        return each.logsumexp(2).sum(1).float()

    def sample(self, noise: Noise, frames: int, temperature: float) -> Tensor:
        """See `LatentPrior.sample`. The temperature also sharpens the choice of the component."""
        components, channels = self.mean.shape
        uniform = torch.special.ndtr(noise.normal(frames, components)).clamp(EDGE, 1 - EDGE)
        gumbel = -(-uniform.log()).log()
        chosen = (self.weight.float() + temperature * gumbel).argmax(2)
        deviation = self._log_deviation().exp()[chosen].transpose(1, 2)
        normal = noise.normal(channels, frames)
        return self.mean.float()[chosen].transpose(1, 2) + temperature * deviation * normal

    def _log_deviation(self) -> Tensor:
        return self.log_deviation.float().clamp(-WIDEST_LOG_DEVIATION, WIDEST_LOG_DEVIATION)


class ZeroConv(nn.Conv1d):
    """A convolution that starts at zero, also where `trunk.start` is random: couplings start as the identity."""

    def reset_parameters(self) -> None:
        """Sets weight and bias to zero."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class Coupling(nn.Module):
    """An affine coupling layer: half of the channels is shifted and scaled by what the other half says."""

    def __init__(self, channels: int, width: int, flipped: bool) -> None:
        super().__init__()
        first = channels // 2
        self.sizes = (channels - first, first) if flipped else (first, channels - first)
        self.flipped = flipped
        kept, changed = self.sizes
        self.enter = nn.Conv1d(kept, width, KERNEL, padding=KERNEL // 2)
        self.inner = nn.Conv1d(width, width, 1)
        self.leave = ZeroConv(width, 2 * changed, KERNEL, padding=KERNEL // 2)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, T] -> [B, C, T], and the log of the Jacobian's determinant, [B]."""
        kept, changed = self._halves(latents)
        shift, log_scale = self._affine(kept)
        return self._joined(kept, (changed + shift) * log_scale.exp()), log_scale.flatten(1).sum(1)

    def inverse(self, latents: Tensor) -> Tensor:
        """What `forward` turns into these latents, [B, C, T]."""
        kept, changed = self._halves(latents)
        shift, log_scale = self._affine(kept)
        return self._joined(kept, changed * (-log_scale).exp() - shift)

    def _affine(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        hidden = functional.silu(self.inner(functional.silu(self.enter(kept))))
        shift, raw = self.leave(hidden).float().chunk(2, 1)
        return shift, WIDEST_LOG_SCALE * (raw / WIDEST_LOG_SCALE).tanh()

    def _halves(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        kept, changed = self.sizes
        if self.flipped:
            return latents[:, changed:], latents[:, :changed]
        return latents[:, :kept], latents[:, kept:]

    def _joined(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([changed, kept] if self.flipped else [kept, changed], 1)


def order_of(layer: int, channels: int) -> np.ndarray:
    """The order of the channels before a layer, int64 [channels]: as if at random, and the same with every NumPy.

    Weights mean nothing in another order, and model folders do not hold it.
    """
    keys = (np.arange(1, channels + 1, dtype=np.uint64) + np.uint64(layer << 32)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in MIXERS[:2]:
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    return keys.argsort(kind="stable")


class FlowOfLatents(LatentPrior):
    """A normalising flow: coupling layers turn a chunk's latents into values that are N(0, I).

    The channels are permuted before each layer, always alike.
    """

    def __init__(self, channels: int, layers: int, width: int) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError("prior.kind is flow and there is one latent channel: a flow needs at least 2")
        # A scale and a shift of each channel first: posterior means of a new encoder are far from unit variance.
        self.log_scale = nn.Parameter(torch.zeros(channels, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1))
        self.layers = nn.ModuleList(Coupling(channels, width, flipped=bool(i % 2)) for i in range(layers))
        orders = np.stack([order_of(layer, channels) for layer in range(layers)])
        self.orders = nn.Buffer(torch.from_numpy(orders), persistent=False)
        self.returns = nn.Buffer(torch.from_numpy(orders.argsort(1)), persistent=False)

    def forward(self, latents: Tensor) -> Tensor:
        """The log density in nats, [B]."""
        log_scale = self._log_scale()
        values = (latents.float() - self.shift) * (-log_scale).exp()
        total = -log_scale.sum() * latents.shape[2]
        for layer, order in zip(self.layers, self.orders, strict=True):
            values, change = layer(values[:, order])
            total = total + change
        density = -0.5 * values.square() - HALF_LOG_TAU
        return density.flatten(1).sum(1) + total

    def sample(self, noise: Noise, frames: int, temperature: float) -> Tensor:
        """See `LatentPrior.sample`."""
        values = temperature * noise.normal(len(self.shift), frames)
        for layer, back in zip(list(self.layers)[::-1], self.returns.flip(0), strict=True):
            values = cast(Coupling, layer).inverse(values)[:, back]
        return values * self._log_scale().exp() + self.shift

    def _log_scale(self) -> Tensor:
        return self.log_scale.float().clamp(-WIDEST_LOG_DEVIATION, WIDEST_LOG_DEVIATION)


def make_latent_prior(config: LatentPriorConfig, channels: int) -> LatentPrior | None:
    """The prior of latents with this many channels; None for N(0, I), whose divergence has a formula.

    Raises:
        ValueError: if the prior is not possible for so few channels.
    """
    if config.kind == "mixture":
        return MixturePrior(channels, config.components)
    if config.kind == "flow":
        return FlowOfLatents(channels, config.layers, config.width)
    return None
