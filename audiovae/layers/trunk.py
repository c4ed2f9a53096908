"""The trunk that all families share: a strided 1-D encoder tower and its mirror.

Lengths are exact: every stride divides the length that reaches it, so nothing is padded to fit and nothing
is cropped. The first layer strides at once, since many channels at the full sample rate are what makes
waveform autoencoders slow. The towers start as a linear transform codec (a lapped cosine transform of which
the lowest bands are kept) with residual branches at zero, and training departs from there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

# How much of the usual random start is left in the layers that begin as a transform: enough to break ties.
RANDOM_SHARE = 0.02


@dataclass
class TrunkConfig:
    """Architecture of the encoder; the decoder mirrors it.

    Attributes:
        strides: Downsampling of each stage, 2 or more, from the input to the latents. Their product must divide the
            number of input frames.
        channels: Channels after each stage; one entry for each stride.
        blocks: Residual blocks of each stage.
        kernel: Kernel size of the residual blocks, in frames; odd.
        start: Initialization. "transform": encoder and decoder start as a codec of overlapping cosine transforms,
            with residual branches at zero. "random": PyTorch's default for every convolution, residual branches and
            output layers included.
    """

    strides: list[int]
    channels: list[int]
    blocks: int = 2
    kernel: int = 3
    start: Literal["transform", "random"] = "transform"

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.channels) or not self.strides:
            raise ValueError(
                f"trunk.strides has {len(self.strides)} entries and trunk.channels {len(self.channels)}: "
                "give one width for each stride"
            )
        if min(self.strides) < 2:
            raise ValueError(f"a stride of {min(self.strides)} does not shorten anything: strides are 2 or more")
        if min(self.channels) < 1:
            raise ValueError("trunk.channels must be positive")
        if self.kernel % 2 == 0:
            raise ValueError(f"trunk.kernel is {self.kernel}: it must be odd")
        if self.start not in ("transform", "random"):
            raise ValueError(f"trunk.start is {self.start}: choose transform or random")


def frames_after(length: int, strides: Sequence[int]) -> list[int]:
    """Frames after each stage for an input of `length` frames.

    Raises:
        ValueError: when a stride does not divide the length that reaches it.
    """
    frames = []
    for stride in strides:
        if length % stride:
            divisors = [d for d in range(1, length + 1) if length % d == 0]
            near = sorted(sorted(divisors, key=lambda d: abs(d - stride))[:4])
            raise ValueError(
                f"strides {list(strides)}: {stride} does not divide {length} frames, {', '.join(map(str, near))} do; "
                "model.trunk.strides (and level_strides) must multiply to a divisor of the chunk's length (of a mel "
                "spectrogram: of its frames, see model.representation.multiple)"
            )
        length //= stride
        frames.append(length)
    return frames


def lapped_cosines(bands: int) -> Tensor:
    """The modified discrete cosine transform as a convolution kernel: [bands, 2 * bands], orthonormal rows.

    With a stride of `bands` analysis and synthesis reconstruct exactly, but for the two half frames at the
    ends (Princen, Johnson and Bradley 1987; sine window).
    """
    time = torch.arange(2 * bands).unsqueeze(0) + 0.5
    band = torch.arange(bands).unsqueeze(1) + 0.5
    window = torch.sin(math.pi * time / (2 * bands)) * math.sqrt(2 / bands)
    return window * torch.cos(math.pi / bands * (time + bands / 2) * band)


@torch.no_grad()
def start_as_lapped_cosines(weight: Tensor, stride: int) -> None:
    """Starts a strided layer on one waveform, weight [C, 1, 2 * stride], as a transform of its lowest bands."""
    kept = min(weight.shape[0], stride)
    weight.mul_(RANDOM_SHARE)
    weight[:kept, 0] += lapped_cosines(stride)[:kept]


@torch.no_grad()
def start_as_selection(weight: Tensor, stride: int = 1, padding: int = 0) -> None:
    """Starts a strided layer, weight [coarse, fine, kernel], as time folded into channels, lowest bands kept.

    Coarse channel b * stride + j carries fine channel b at phase j. Used for both directions: a transposed
    convolution's weight has the same layout.
    """
    coarse, fine, _ = weight.shape
    weight.mul_(RANDOM_SHARE)
    channel = torch.arange(min(coarse, fine * stride))
    weight[channel, channel // stride, padding + channel % stride] += 1


@torch.no_grad()
def start_as_band_cosines(weight: Tensor, stride: int = 1, padding: int = 0) -> None:
    """Starts a strided layer on a spectrum, weight [coarse, bands, kernel], as cosines over the bands.

    Coarse channel b * stride + j carries at phase j how the spectrum swings b half times over its bands: the
    orthonormal DCT-II, as in cepstra. Bands lie beside each other, unlike channels further in: the lowest ones
    alone would be a dull sound, the lowest cosines are the whole spectrum, smoothed.
    """
    coarse, bands, _ = weight.shape
    weight.mul_(RANDOM_SHARE)
    place = (torch.arange(bands) + 0.5).unsqueeze(0)
    cosines = torch.cos(math.pi / bands * torch.arange(bands).unsqueeze(1) * place) * math.sqrt(2 / bands)
    cosines[0] /= math.sqrt(2)
    for channel in range(min(coarse, bands * stride)):
        weight[channel, :, padding + channel % stride] += cosines[channel // stride]


@torch.no_grad()
def start_at_random(model: nn.Module) -> None:
    """Gives every convolution PyTorch's usual start (He et al. 2015, uniform)."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            layer.reset_parameters()


class ResidualBlock(nn.Module):
    """x + point(act(wide(act(x)))): [B, C, T] -> [B, C, T], the identity at the start of training.

    A branch that starts at zero needs no normalisation layer, however deep the tower
    (Zhang, Dauphin and Ma 2019, "Fixup Initialization").
    """

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.wide = nn.Conv1d(channels, channels, kernel, padding=padding, dilation=dilation)
        self.point = nn.Conv1d(channels, channels, 1)
        self.act = nn.SiLU()
        for parameter in self.point.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        return x + self.point(self.act(self.wide(self.act(x))))


def residual_stack(channels: int, blocks: int, kernel: int) -> nn.Sequential:
    """`blocks` residual blocks with dilations 1, 3, 9, 1, ... on [B, C, T]."""
    return nn.Sequential(*(ResidualBlock(channels, kernel, 3 ** (i % 3)) for i in range(blocks)))


def downsample(inputs: int, outputs: int, stride: int, outermost: bool = False) -> nn.Conv1d:
    """[B, inputs, T] -> [B, outputs, T / stride] with a kernel of twice the stride."""
    padding = math.ceil(stride / 2)
    layer = nn.Conv1d(inputs, outputs, 2 * stride, stride=stride, padding=padding)
    start_as_transform(layer.weight, stride, padding, outermost)
    return layer


def upsample(inputs: int, outputs: int, stride: int, outermost: bool = False) -> nn.ConvTranspose1d:
    """[B, inputs, T] -> [B, outputs, T * stride], the mirror of `downsample`."""
    padding = math.ceil(stride / 2)
    layer = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride=stride, padding=padding, output_padding=stride % 2)
    start_as_transform(layer.weight, stride, padding, outermost)
    return layer


def start_as_transform(weight: Tensor, stride: int, padding: int, outermost: bool) -> None:
    """The start of a strided layer, weight [coarse, fine, 2 * stride].

    Cosines over time on a waveform, over bands on a spectrum (the outermost layer with several channels), and a
    selection further in.
    """
    if weight.shape[1] == 1:
        start_as_lapped_cosines(weight, stride)
    elif outermost:
        start_as_band_cosines(weight, stride, padding)
    else:
        start_as_selection(weight, stride, padding)


def project(inputs: int, outputs: int) -> nn.Conv1d:
    """[B, inputs, T] -> [B, outputs, T] with a kernel of 3, at the start a copy of the first channels."""
    layer = nn.Conv1d(inputs, outputs, 3, padding=1)
    with torch.no_grad():
        layer.weight.mul_(RANDOM_SHARE)
        channel = torch.arange(min(inputs, outputs))
        layer.weight[channel, channel, 1] += 1
    return layer


def silent_head(inputs: int, outputs: int, bias: float = 0.0) -> nn.Conv1d:
    """[B, inputs, T] -> [B, outputs, T], at the start the constant `bias`."""
    layer = nn.Conv1d(inputs, outputs, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias)
    return layer


class Encoder(nn.Module):
    """[B, inputs, T] -> features of each stage, from the finest to the coarsest: [B, C_i, T_i]."""

    def __init__(self, inputs: int, config: TrunkConfig) -> None:
        super().__init__()
        widths = [inputs, *config.channels]
        self.stages = nn.ModuleList(
            nn.Sequential(
                downsample(before, after, stride, outermost=i == 0), residual_stack(after, config.blocks, config.kernel)
            )
            for i, (before, after, stride) in enumerate(zip(widths, config.channels, config.strides, strict=False))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, inputs, T] -> one [B, C_i, T_i] a stage."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Decoder(nn.Module):
    """[B, C_last, T_last] -> [B, outputs, T]: the stages of `Encoder` backwards."""

    def __init__(self, outputs: int, config: TrunkConfig) -> None:
        super().__init__()
        widths = [outputs, *config.channels]
        stages = [
            nn.Sequential(
                residual_stack(after, config.blocks, config.kernel), upsample(after, before, stride, outermost=i == 0)
            )
            for i, (before, after, stride) in enumerate(zip(widths, config.channels, config.strides, strict=False))
        ]
        self.stages = nn.Sequential(*reversed(stages))

    def forward(self, features: Tensor) -> Tensor:
        """[B, C_last, T_last] -> [B, outputs, T]."""
        return self.stages(features)


@torch.no_grad()
def start_as_projection(down: nn.Linear, up: nn.Linear) -> None:
    """Starts [latent] -> [D] with orthonormal directions and the way back as its transpose."""
    nn.init.orthogonal_(down.weight)
    up.weight.copy_(down.weight.T)
    nn.init.zeros_(down.bias)
    nn.init.zeros_(up.bias)
