"""A fixed filter bank instead of a trained first layer: a critically sampled pseudo-QMF bank."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiovae.layers.losses import squared_error, stft_distance

TAPS_PER_BAND = 10  # length of the prototype in units of bands
BETA = 9.0  # of its Kaiser window: about 90 dB of attenuation


def prototype(bands: int) -> Tensor:
    """The low-pass prototype that is modulated to all bands: [TAPS_PER_BAND * bands + 1], float64.

    The cut-off gives the flattest sum of neighbouring bands (Lin and Vaidyanathan 1998, "A Kaiser window approach for
    the design of prototype filters of cosine modulated filterbanks").
    """
    taps = TAPS_PER_BAND * bands
    time = torch.arange(taps + 1, dtype=torch.float64) - taps / 2
    window = torch.kaiser_window(taps + 1, periodic=False, beta=BETA, dtype=torch.float64)

    def low_pass(cutoff: float) -> Tensor:
        return cutoff / math.pi * torch.sinc(cutoff * time / math.pi) * window

    def unevenness(cutoff: float) -> float:
        # The autocorrelation of a Nyquist(2 * bands) filter is 0 at every multiple of 2 * bands.
        filters = low_pass(cutoff)
        both = F.conv1d(filters.view(1, 1, -1), filters.view(1, 1, -1), padding=taps).flatten()
        return both[taps + 2 * bands :: 2 * bands].abs().max().item()

    ideal = math.pi / (2 * bands)
    return low_pass(min((ideal * (1 + 0.001 * i) for i in range(400)), key=unevenness))


class Multiband(nn.Module):
    """[B, 1, T] audio <-> [B, bands, T / bands], with the losses on audio: a representation for `Autoencoder`.

    Each band is a signal along time, so the trunk treats the bands as features and not as a spectrum.
    """

    signal = "features"

    def __init__(self, samples: int, bands: int) -> None:
        super().__init__()
        self.channels, self.frames = bands, samples // bands
        filters = prototype(bands)
        taps = len(filters) - 1
        time = torch.arange(taps + 1, dtype=torch.float64) - taps / 2
        band = torch.arange(bands, dtype=torch.float64).unsqueeze(1)
        phase = (-1) ** band * math.pi / 4
        angle = (2 * band + 1) * math.pi / (2 * bands) * time
        scale = 2 * math.sqrt(bands)
        # Not persistent, because they follow from the number of bands.
        self.register_buffer(
            "analysis", (scale * filters * torch.cos(angle + phase)).unsqueeze(1).float(), persistent=False
        )
        self.register_buffer(
            "synthesis", (scale * filters * torch.cos(angle - phase)).unsqueeze(1).float(), persistent=False
        )
        self.taps = taps

    def represent(self, audio: Tensor) -> Tensor:
        """[B, 1, T] -> [B, bands, T / bands]."""
        # conv1d computes a correlation, so the filter is reversed, which swaps the signs of the phases.
        return F.conv1d(audio, self.analysis.flip(-1), stride=self.channels, padding=self.taps // 2)[..., : self.frames]

    def render(self, representation: Tensor) -> Tensor:
        """[B, bands, T / bands] -> [B, 1, T]."""
        length = self.frames * self.channels
        audio = F.conv_transpose1d(representation.float(), self.synthesis, stride=self.channels, padding=self.taps // 2)
        return F.pad(audio, (0, length - audio.shape[-1]))

    def distances(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The reconstruction losses of the waveform, each [B]."""
        output, target = self.render(output), self.render(target)
        return {"mse": squared_error(output, target), "stft": stft_distance(output, target)}

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Does nothing."""
