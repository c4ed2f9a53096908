"""The scale of latents that hold waveforms, from the levels of bands (Balle et al. 2018, "a scale hyperprior").

A latent of a trunk that begins as a transform holds one band at one moment. Its power follows from the level of that
band, which other latents carry. So the prior's deviation is known to encoder and decoder, and the noise of the
posterior can follow the signal as ears allow.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audiovae.layers.levels import BandLevels, LevelsConfig
from audiovae.layers.losses import USUAL_POWER
from audiovae.layers.trunk import TrunkConfig, silent_head
from audiovae.layers.whitening import Whitening

# Bounds of the natural logarithm of a latent's power: from the lowest level without whitening to the highest with it.
LOG_POWER = (-20.0, 21.0)
# Share of the power of the frames of levels before and after one that reaches its latents: the windows of a lapped
# transform overlap. Without it, the last latents before an attack out of silence are tens of deviations large.
OVERLAP = 0.05
# The posterior is at least this much narrower than the prior, in natural-log units of variance, so that a share of the
# signal stays in every latent.
NARROWER = 0.02


def check_scaling(on: bool, snr: float, levels: LevelsConfig, trunk: TrunkConfig) -> None:
    """Raises ValueError if levels are to set the scale of latents and cannot, or if the ratio is out of range."""
    if on and not levels.bands:
        raise ValueError("scale_by_levels is true, but there are no levels: set levels.bands to 1 or more")
    if on and trunk.start != "transform":
        raise ValueError("scale_by_levels is true: it needs trunk.start transform; set one of the two back")
    if not 0 <= snr <= 60:
        raise ValueError(f"start_snr is {snr}: choose 0 to 60 dB")


@dataclass(frozen=True)
class Scale:
    """The scale of latents and the noise of their posterior, [B, latent, T] float32 each.

    With the log power s and the log noise-to-signal ratio r < 0, the prior is N(m, e^s (1 - e^r)). Relative to it, the
    posterior is N((x - m) e^(-s / 2) (1 - e^r)^(1 / 2), e^r) for the encoder's value x: the channel that codes a
    Gaussian at the least rate (Cover and Thomas 2006, section 10.3).

    Attributes:
        power: Natural logarithm of the latents' power, s.
        ratio: That of their noise-to-signal ratio, r.
        mean: Of the prior, m.
    """

    power: Tensor
    ratio: Tensor
    mean: Tensor | float = 0.0

    @classmethod
    def bounded(cls, power: Tensor, ratio: Tensor, mean: Tensor | float = 0.0) -> "Scale":
        """Of any power and ratio, which are brought into their ranges."""
        return cls(power.clamp(*LOG_POWER), -nn.functional.softplus(-ratio) - NARROWER, mean)

    @property
    def noise(self) -> Tensor:
        """The posterior's deviation relative to the prior's."""
        return (0.5 * self.ratio).exp()

    @property
    def log_variance(self) -> Tensor:
        """Of the prior."""
        return self.power + torch.log1p(-self.ratio.exp())

    def relative(self, own: Tensor) -> Tensor:
        """The posterior's mean relative to the prior, for the encoder's value."""
        return (own - self.mean) * (-0.5 * self.power).exp() * (1 - self.ratio.exp()).sqrt()


def power_rows(latents: int, strides: Sequence[int], rate: int, centres: Sequence[float], channels: int) -> Tensor:
    """The level of each latent channel as a mixture of those of the two nearest bands: [latents, channels * bands].

    Channel (b * A + a) * p + j of a trunk carries band b of audio channel a at phase j, where p is the product of all
    strides but the first (see `audiovae.layers.trunk`). Rows of channels that carry no band are zero.

    Args:
        latents: Latent channels.
        strides: Those of the trunk.
        rate: Hz.
        centres: Middles of the bands of levels of one audio channel, in Hz, rising.
        channels: Audio channels A.
    """
    phases = math.prod(strides[1:])
    rows = torch.zeros(latents, channels * len(centres), device="cpu")  # values also in a model on the device "meta"
    for latent in range(min(latents, strides[0] * channels * phases)):
        band, audio = divmod(latent // phases, channels)
        frequency = (band + 0.5) / strides[0] * rate / 2
        above = bisect_left(centres, frequency)
        low, high = max(above - 1, 0), min(above, len(centres) - 1)
        share = 0.0 if low == high else (frequency - centres[low]) / (centres[high] - centres[low])
        rows[latent, audio * len(centres) + low] += 1 - share
        rows[latent, audio * len(centres) + high] += share
    return rows


def overlapped(levels: Tensor) -> Tensor:
    """Log power [B, bands, T] with a share OVERLAP of that of the frames before and after."""
    power = levels.exp().clamp_min(math.exp(LOG_POWER[0]))
    around = nn.functional.pad(power, (1, 1))
    return (power + OVERLAP * (around[..., :-2] + around[..., 2:])).log()


class LatentScale(nn.Module):
    """Log power of latents from log power of bands, and the noise-to-signal ratio at which they begin.

    Args:
        rows: Of `power_rows`, [latents, bands].
        frames: Latent frames of a chunk.
        phases: Latent channels of a channel of the first layer.
        masking: Exponent in [0, 1] of the signal's power that the noise's follows, see `RepresentationConfig.masking`.
        snr: Signal-to-noise ratio in dB at `audiovae.layers.losses.USUAL_POWER`.
        causal: Whether the latents of a frame know nothing of the frame after it.
    """

    def __init__(self, rows: Tensor, frames: int, phases: int, masking: float, snr: float, causal: bool) -> None:
        super().__init__()
        self.frames, self.phases, self.slope, self.causal = frames, phases, 1 - masking, causal
        # noise / signal = 10^(-snr / 10) * (usual / signal)^slope
        self.offset = -snr / 10 * math.log(10) + self.slope * math.log(USUAL_POWER)
        self.rows = nn.Buffer(rows, persistent=False)  # follows from the settings, so it is in no file

    def forward(self, levels: Tensor, whitening: Whitening | None) -> tuple[Tensor, Tensor]:
        """Log power and initial log noise-to-signal ratio of each latent, [B, latents, frames] each.

        Args:
            levels: Log power of a coefficient in each band, [B, bands, slower frames].
            whitening: Of the encoder's first layer, if it has one; latents are scaled as that layer's channels are.
        """
        with torch.autocast(levels.device.type, enabled=False):
            levels = levels.float()
            power = self.rows.to(levels.device) @ (levels if self.causal else overlapped(levels))
        power = power.repeat_interleave(self.frames // power.shape[2], dim=2)
        ratio = self.offset - self.slope * power
        if whitening is not None:
            power = power + 2 * whitening.gain.log().repeat_interleave(self.phases, dim=0)[: power.shape[1]]
        return power, ratio


def make_latent_scale(config: Any, latents: int, frames: int, levels: BandLevels, rate: int) -> LatentScale:
    """The scale of the latents next to a trunk.

    Args:
        config: Of a family, with `trunk`, `levels`, `representation` and `start_snr`.
        latents, frames: Of a chunk.
        levels: The levels of the model.
        rate: Hz.

    Raises:
        ValueError: if there are more latents than the trunk keeps channels.
    """
    strides, inputs = config.trunk.strides, levels.channels
    known = inputs
    for stride, width in zip(strides, config.trunk.channels, strict=True):
        known = min(known * stride, width)
    if latents > known:
        raise ValueError(
            f"{latents} latents next to the trunk: with scale_by_levels at most {known}, what the trunk keeps of a "
            "frame; choose fewer, or raise trunk.channels"
        )
    centres = levels.centres.flatten().tolist()[: config.levels.bands]
    rows = power_rows(latents, strides, rate, centres, inputs)
    masking = config.representation.masking
    return LatentScale(rows, frames, math.prod(strides[1:]), masking, config.start_snr, config.trunk.causal)


class ScaledLatents(nn.Module):
    """Corrections to the scale that levels give, learned from these levels; for latents whose prior is N(0, I)."""

    def __init__(self, scale: LatentScale, bands: int) -> None:
        super().__init__()
        self.scale = scale
        self.correction = silent_head(bands, 2 * len(scale.rows), 0.0)

    def forward(self, levels: Tensor, power: Tensor, whitening: Whitening | None) -> Scale:
        """The scale of each latent, [B, latents, frames].

        Args:
            levels: Normalised levels [B, bands, slower frames].
            power: The same as log power of a coefficient in each band.
            whitening: See `LatentScale`.
        """
        own, ratio = self.scale(power, whitening)
        correction = self.correction(levels).float()
        more, less = correction.repeat_interleave(own.shape[2] // levels.shape[2], dim=2).chunk(2, dim=1)
        return Scale.bounded(own + more, ratio + less)
