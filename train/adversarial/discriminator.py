"""The discriminator: networks that score recordings and reconstructions, on complex spectra or on folded waveforms.

No network pads along time: a border would tell recordings from reconstructions by itself. None has batch
normalisation, and so the score of an item does not depend on the other items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrizations import weight_norm

from audiovae.layers.representation import mid_side
from train.adversarial.settings import AdversarialConfig

SLOPE = 0.2
# Dilations along time of a spectral network's middle layers.
DILATIONS = (1, 2, 4)
# Magnitudes m of spectra, relative to a full-scale sine, become m ** COMPRESSION: quiet upper bands stay visible.
COMPRESSION = 0.5
MAGNITUDE_FLOOR = 1e-5
# Strides and widths, as multiples of `filters`, of a network on folded waveforms.
PERIOD_STRIDES = (3, 3, 3, 1)
PERIOD_WIDTHS = (1, 4, 8, 8)


@dataclass
class Judgement:
    """What a discriminator says of a batch.

    Attributes:
        scores: By network, [B, 1, ...] float32; high for recordings.
        features: By network and layer, [B, C, ...].
    """

    scores: list[Tensor]
    features: list[list[Tensor]]

    def halves(self) -> tuple["Judgement", "Judgement"]:
        """The judgement of the first and of the second half of the batch."""
        first, second = [], []
        for scores, layers in zip(self.scores, self.features, strict=True):
            half = len(scores) // 2
            first.append((scores[:half], [layer[:half] for layer in layers]))
            second.append((scores[half:], [layer[half:] for layer in layers]))
        return Judgement(*map(list, zip(*first, strict=True))), Judgement(*map(list, zip(*second, strict=True)))

    def detached(self) -> "Judgement":
        """The same without gradients."""
        features = [[layer.detach() for layer in layers] for layers in self.features]
        return Judgement([scores.detach() for scores in self.scores], features)


def spectrum(audio: Tensor, window: int) -> Tensor:
    """The complex spectrum with compressed magnitudes.

    Args:
        audio: [B, A, T], any float type.
        window: Hann window and FFT in samples; the hop is a quarter. The first frame begins at the first sample.

    Returns:
        [B, 2 A, frames, window / 2] float32: real and imaginary part of each channel, without the bin at half the rate.
    """
    with torch.autocast(audio.device.type, enabled=False):
        taper = torch.hann_window(window, device=audio.device)
        found = torch.stft(
            audio.float().flatten(0, 1), window, window // 4, window=taper, center=False, return_complex=True
        )
        parts = torch.view_as_real(found[:, :-1] * (2 / taper.sum())).permute(0, 3, 2, 1)
        power = parts.square().sum(1, keepdim=True) + MAGNITUDE_FLOOR**2
        compressed = parts * power ** ((COMPRESSION - 1) / 2)
        return compressed.unflatten(0, (-1, audio.shape[1])).flatten(1, 2)


class SpectralNetwork(nn.Module):
    """Convolutions over time and frequency of one complex spectrum (Defossez et al. 2022, "EnCodec", figure 2)."""

    def __init__(self, window: int, filters: int, channels: int = 1) -> None:
        super().__init__()
        self.window = window
        layers = [nn.Conv2d(2 * channels, filters, (3, 9), padding=(0, 4))]
        layers += [
            nn.Conv2d(filters, filters, (3, 9), stride=(1, 2), dilation=(dilation, 1), padding=(0, 4))
            for dilation in DILATIONS
        ]
        layers.append(nn.Conv2d(filters, filters, 3, padding=(0, 1)))
        self.layers = nn.ModuleList(map(weight_norm, layers))
        self.score = weight_norm(nn.Conv2d(filters, 1, 3, padding=(0, 1)))

    @staticmethod
    def shortest(window: int) -> int:
        """The least number of samples with a score."""
        frames = 1 + 2 * (1 + sum(DILATIONS) + 1 + 1)  # each layer takes twice its dilation away
        return window + (frames - 1) * (window // 4)

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, A, T] -> scores [B, 1, frames, bands] and the features of each layer [B, C, frames, bands]."""
        return _through(self.layers, self.score, spectrum(audio, self.window))


class PeriodNetwork(nn.Module):
    """Convolutions over a waveform that is folded by a period (Kong et al. 2020, "HiFi-GAN", figure 2)."""

    def __init__(self, period: int, filters: int, channels: int = 1) -> None:
        super().__init__()
        self.period = period
        widths = [channels, *(filters * width for width in PERIOD_WIDTHS)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (5, 1), stride=(stride, 1)))
            for before, after, stride in zip(widths, widths[1:], PERIOD_STRIDES, strict=False)
        )
        self.score = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1)))

    @staticmethod
    def shortest(period: int) -> int:
        """The least number of samples with a score."""
        rows = 3
        for stride in reversed(PERIOD_STRIDES):
            rows = (rows - 1) * stride + 5
        return rows * period

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, A, T] -> scores [B, 1, frames, period] and the features of each layer [B, C, frames, period].

        Samples that do not fill a row are left out.
        """
        whole = audio.shape[-1] // self.period * self.period
        return _through(self.layers, self.score, audio[..., :whole].unflatten(-1, (-1, self.period)))


def _through(layers: nn.ModuleList, last: nn.Module, values: Tensor) -> tuple[Tensor, list[Tensor]]:
    features = []
    for layer in layers:
        values = leaky_relu(layer(values), SLOPE)
        features.append(values)
    with torch.autocast(values.device.type, enabled=False):
        return last(values.float()), features


def check_length(config: AdversarialConfig, samples: int) -> None:
    """Raises ValueError if chunks of `samples` samples are too short for one of the networks."""
    kinds = (("windows", SpectralNetwork, config.windows), ("periods", PeriodNetwork, config.periods))
    for name, kind, values in kinds:
        for value in values:
            if samples < kind.shortest(value):
                raise ValueError(
                    f"adversarial.{name} has {value}, which needs chunks of {kind.shortest(value):,} samples, and "
                    f"these have {samples:,}: leave it out"
                )


class Discriminator(nn.Module):
    """Several networks, each with a view of its own on the waveform, of stereo on mid and side.

    Raises:
        ValueError: if chunks of `samples` samples are too short for one of them.
    """

    def __init__(self, config: AdversarialConfig, samples: int, channels: int = 1) -> None:
        super().__init__()
        check_length(config, samples)
        self.networks = nn.ModuleList(SpectralNetwork(window, config.filters, channels) for window in config.windows)
        self.networks.extend(PeriodNetwork(period, config.filters, channels) for period in config.periods)

    def forward(self, audio: Tensor) -> Judgement:
        """Judges audio [B, A, T]."""
        found = [network(mid_side(audio)) for network in self.networks]
        return Judgement([scores for scores, _ in found], [features for _, features in found])


def make_discriminator(config: AdversarialConfig, samples: int, seed: int, channels: int = 1) -> Discriminator:
    """A discriminator with weights drawn from a seed; the random state of the process stays as it is.

    Raises:
        ValueError: if chunks of `samples` samples are too short.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        return Discriminator(config, samples, channels)
