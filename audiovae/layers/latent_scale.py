"""The scale of latents that hold waveforms, from the levels of bands (Balle et al. 2018, "a scale hyperprior").

A latent of a trunk that begins as a transform holds one band at one moment. Its power follows from the level of that
band, which other latents carry. So the prior's deviation is known to encoder and decoder, and the noise of the
posterior can follow the signal as ears allow.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiovae.layers.whitening import Whitening

# Bounds of the natural logarithm of a latent's power: from the lowest level without whitening to the highest with it.
LOG_POWER = (-20.0, 21.0)
# The posterior is at least this much narrower than the prior, in natural-log units of variance, so that a share of the
# signal stays in every latent.
NARROWER = 0.02


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


class LatentScale(nn.Module):
    """Log power of latents from log power of bands, and the noise-to-signal ratio at which they begin.

    Args:
        rows: Of `power_rows`, [latents, bands].
        frames: Latent frames of a chunk.
        phases: Latent channels of a channel of the first layer.
        masking: Exponent in [0, 1] of the signal's power that the noise's follows, see `RepresentationConfig.masking`.
        snr: Signal-to-noise ratio in dB at `audiovae.layers.losses.USUAL_POWER`.
        usual: That power.
    """

    def __init__(self, rows: Tensor, frames: int, phases: int, masking: float, snr: float, usual: float) -> None:
        super().__init__()
        self.frames, self.phases, self.slope = frames, phases, 1 - masking
        # noise / signal = 10^(-snr / 10) * (usual / signal)^slope
        self.offset = -snr / 10 * math.log(10) + self.slope * math.log(usual)
        self.rows = nn.Buffer(rows, persistent=False)  # follows from the settings, so it is in no file

    def forward(self, levels: Tensor, whitening: Whitening | None) -> tuple[Tensor, Tensor]:
        """Log power and initial log noise-to-signal ratio of each latent, [B, latents, frames] each.

        Args:
            levels: Log power of a coefficient in each band, [B, bands, slower frames].
            whitening: Of the encoder's first layer, if it has one; latents are scaled as that layer's channels are.
        """
        with torch.autocast(levels.device.type, enabled=False):
            power = self.rows.to(levels.device) @ levels.float()
        power = power.repeat_interleave(self.frames // power.shape[2], dim=2)
        ratio = self.offset - self.slope * power
        if whitening is not None:
            power = power + 2 * whitening.gain.log().repeat_interleave(self.phases, dim=0)[: power.shape[1]]
        return power, ratio
