"""The trunk that all families share: a strided 1-D convolutional encoder and the decoder that mirrors it.

Every stride divides the number of frames that reaches it, so no layer pads or crops. The first layer already
strides, because many channels at the full sample rate make waveform autoencoders slow. By default the trunk is
initialized as a linear transform codec: a lapped cosine transform that keeps the lowest bands, with residual
branches at zero. A causal trunk has the same layers, padded on the side of the past only, and begins as a codec of
cosine transforms that do not overlap: overlap would need the next frame.
"""

import math
import reprlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from audiovae.layers import convolutions
from audiovae.layers.convolutions import CausalConv1d, CausalConvTranspose1d
from audiovae.layers.transforms import block_cosines, lapped_cosines
from audiovae.layers.whitening import Whitening

# The share of the random initialization that remains in layers that start as a transform: enough to break ties.
RANDOM_SHARE = 0.02

# What the channels of a layer's finer side are: audio channels, the bands of a spectrum, those of two spectra one after
# the other, or learned features.
Signal = Literal["waveform", "spectrum", "two spectra", "features"]
SPECTRA = {"spectrum": 1, "two spectra": 2}


@dataclass
class TrunkConfig:
    """Shape of the encoder tower; the decoder mirrors it.

    Attributes:
        strides: Downsampling of each stage, 2 or more, from the waveform inwards. Their product must divide the
            length.
        channels: Width after each stage, as many as strides.
        blocks: Residual blocks at each stage.
        kernel: Odd kernel size of the residual blocks, in frames.
        start: "transform": the towers begin as a codec of overlapping cosine transforms, with residual branches at
            zero. "random": PyTorch's usual start in every convolution, residual branches and heads included.
        causal: Whether every layer sees only the past, so that audio can be processed while it comes in (see
            `audiovae.stream`). Needs the waveform as representation and latents along time.
        whiten: Whether the bands of the first layer get the same mean power over the training recordings, and their own
            again before the last layer. Otherwise the upper bands are a thousandth of the lowest, and training hardly
            reaches them. Needs the waveform as representation and the transform as start.
    """

    strides: list[int]
    channels: list[int]
    blocks: int = 2
    kernel: int = 3
    start: Literal["transform", "random"] = "transform"
    causal: bool = False
    whiten: bool = False

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.channels) or not self.strides:
            raise ValueError(
                f"trunk.strides has {len(self.strides)} entries and trunk.channels {len(self.channels)}: "
                "there must be one width for each stride"
            )
        if min(self.strides) < 2:
            raise ValueError(f"a stride of {min(self.strides)} does not downsample: strides must be 2 or more")
        if min(self.channels) < 1:
            raise ValueError("trunk.channels must be positive")
        if self.kernel % 2 == 0 or self.kernel < 1:
            raise ValueError(f"trunk.kernel is {self.kernel}: it must be odd and at least 1")
        if self.blocks < 0:
            raise ValueError(f"trunk.blocks is {self.blocks}: it must be at least 0")
        if self.start not in ("transform", "random"):
            raise ValueError(f"trunk.start is {reprlib.repr(self.start)}: choose transform or random")

    def check(self, representation: str, pooled: bool = False) -> None:
        """Raises ValueError if a model of this representation, pooled over time or not, cannot have this trunk."""
        if self.whiten and (representation != "waveform" or self.start != "transform"):
            raise ValueError(
                "trunk.whiten is true: it needs representation.kind waveform and trunk.start transform; set it to false"
            )
        if self.causal and (representation != "waveform" or pooled):
            what = "pooled latents need the whole chunk" if pooled else "Griffin-Lim needs the whole spectrogram"
            raise ValueError(f"trunk.causal is true, but {what}: set trunk.causal to false")


class LengthError(ValueError):
    """The strides of a model do not divide the length of the chunks."""


def frames_after(length: int, strides: Sequence[int]) -> list[int]:
    """Frames after each stage for an input of `length` frames.

    Raises:
        LengthError: if a stride does not divide the number of frames that reaches it.
    """
    frames = []
    for stride in strides:
        if length % stride:
            small = [d for d in range(1, math.isqrt(length) + 1) if length % d == 0]
            divisors = sorted({*small, *(length // d for d in small)})
            near = sorted(sorted(divisors, key=lambda d: abs(d - stride))[:4])
            raise LengthError(
                f"strides {list(strides)}: {stride} does not divide {length} frames, {', '.join(map(str, near))} do; "
                "model.trunk.strides (and level_strides) must multiply to a divisor of the chunk's length (of a mel "
                "spectrogram: of its frames, see model.representation.multiple)"
            )
        length //= stride
        frames.append(length)
    return frames


@torch.no_grad()
def start_as_lapped_cosines(weight: Tensor, stride: int) -> None:
    """Initializes a strided layer on a waveform, weight [C, audio channels, 2 * stride], as a lapped transform.

    Each audio channel is transformed alone. Of A audio channels, layer channel b * A + a carries band b of audio
    channel a, so that the lowest bands of all of them come first.
    """
    inputs = weight.shape[1]
    channel = torch.arange(min(weight.shape[0], stride * inputs))
    weight.mul_(RANDOM_SHARE)
    weight[channel, channel % inputs] += lapped_cosines(stride)[channel // inputs]


@torch.no_grad()
def start_as_block_cosines(weight: Tensor, stride: int, padding: int) -> None:
    """As `start_as_lapped_cosines`, but each frame is transformed alone, from kernel position `padding` on."""
    inputs = weight.shape[1]
    channel = torch.arange(min(weight.shape[0], stride * inputs))
    weight.mul_(RANDOM_SHARE)
    weight[channel, channel % inputs, padding : padding + stride] += block_cosines(stride)[channel // inputs]


@torch.no_grad()
def start_as_selection(weight: Tensor, stride: int = 1, padding: int = 0) -> None:
    """Initializes a strided layer, weight [coarse, fine, kernel], so that it folds time into channels.

    Coarse channel b * stride + j carries fine channel b at phase j; the lowest channels are kept. This serves both
    directions, because the weight of a transposed convolution has the same layout.
    """
    coarse, fine, _ = weight.shape
    weight.mul_(RANDOM_SHARE)
    channel = torch.arange(min(coarse, fine * stride))
    weight[channel, channel // stride, padding + channel % stride] += 1


@torch.no_grad()
def start_as_band_cosines(weight: Tensor, stride: int = 1, padding: int = 0, spectra: int = 1) -> None:
    """Initializes a strided layer on spectra, weight [coarse, spectra * bands, kernel], as cosines over the bands.

    Coarse channel (b * spectra + s) * stride + j carries coefficient b of the orthonormal DCT-II over the bands of
    spectrum s at phase j, as in cepstra. The lowest bands alone would drop the treble; the lowest cosines keep the
    whole spectrum, smoothed.
    """
    coarse, rows, _ = weight.shape
    bands = rows // spectra
    weight.mul_(RANDOM_SHARE)
    cosines = block_cosines(bands)
    for channel in range(min(coarse, rows * stride)):
        coefficient, spectrum = divmod(channel // stride, spectra)
        own = slice(spectrum * bands, (spectrum + 1) * bands)
        weight[channel, own, padding + channel % stride] += cosines[coefficient]


@torch.no_grad()
def start_at_random(model: nn.Module) -> None:
    """Gives every convolution PyTorch's default initialization (He et al. 2015, uniform)."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            layer.reset_parameters()


class ResidualBlock(nn.Module):
    """x + point(act(wide(act(x)))): [B, C, T] -> [B, C, T], the identity at initialization.

    A branch that starts at zero needs no normalization layer at any depth (Zhang, Dauphin and Ma 2019, "Fixup
    Initialization").
    """

    def __init__(self, channels: int, kernel: int, dilation: int, causal: bool = False) -> None:
        super().__init__()
        if causal:
            self.wide: nn.Conv1d = CausalConv1d(channels, channels, kernel, dilation=dilation)
        else:
            padding = dilation * (kernel - 1) // 2
            self.wide = nn.Conv1d(channels, channels, kernel, padding=padding, dilation=dilation)
        self.point = nn.Conv1d(channels, channels, 1)
        self.act = nn.SiLU()
        nn.init.zeros_(self.point.weight)
        assert self.point.bias is not None
        nn.init.zeros_(self.point.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        return x + self.point(self.act(self.wide(self.act(x))))


def residual_stack(channels: int, blocks: int, kernel: int, causal: bool = False) -> nn.Sequential:
    """`blocks` residual blocks with dilations 1, 3, 9, 1, ... on [B, C, T]."""
    return nn.Sequential(*(ResidualBlock(channels, kernel, 3 ** (i % 3), causal) for i in range(blocks)))


def downsample(inputs: int, outputs: int, stride: int, signal: Signal = "features", causal: bool = False) -> nn.Conv1d:
    """[B, inputs, T] -> [B, outputs, T / stride] with a kernel of twice the stride."""
    is_wave = signal == "waveform"
    if causal:
        kind = convolutions.CausalWaveformConv1d if is_wave else CausalConv1d
        layer: nn.Conv1d = kind(inputs, outputs, 2 * stride, stride=stride)
        start_as_block_transform(layer.weight, stride, stride, signal)
        return layer
    padding = math.ceil(stride / 2)
    plain = convolutions.WaveformConv1d if is_wave else nn.Conv1d
    layer = plain(inputs, outputs, 2 * stride, stride=stride, padding=padding)
    start_as_transform(layer.weight, stride, padding, signal)
    return layer


def upsample(
    inputs: int, outputs: int, stride: int, signal: Signal = "features", causal: bool = False
) -> nn.ConvTranspose1d:
    """[B, inputs, T] -> [B, outputs, T * stride], the mirror of `downsample`."""
    is_wave = signal == "waveform"
    if causal:
        kind = convolutions.CausalWaveformConvTranspose1d if is_wave else CausalConvTranspose1d
        layer: nn.ConvTranspose1d = kind(inputs, outputs, stride)
        start_as_block_transform(layer.weight, stride, 0, signal)
        return layer
    padding = math.ceil(stride / 2)
    plain = convolutions.WaveformConvTranspose1d if is_wave else nn.ConvTranspose1d
    layer = plain(inputs, outputs, 2 * stride, stride=stride, padding=padding, output_padding=stride % 2)
    start_as_transform(layer.weight, stride, padding, signal)
    return layer


def start_as_transform(weight: Tensor, stride: int, padding: int, signal: Signal) -> None:
    """Initializes a strided layer, weight [coarse, fine, 2 * stride], as the transform that suits its finer side.

    Cosines over time for a waveform, cosines over the bands of a spectrum, a selection for features. On the device
    "meta" there are no values to initialize.
    """
    if weight.is_meta:
        return
    if signal == "waveform":
        start_as_lapped_cosines(weight, stride)
    elif signal in SPECTRA:
        start_as_band_cosines(weight, stride, padding, SPECTRA[signal])
    else:
        start_as_selection(weight, stride, padding)


def start_as_block_transform(weight: Tensor, stride: int, padding: int, signal: Signal) -> None:
    """As `start_as_transform`, for a causal layer: each frame alone, from kernel position `padding` on."""
    if weight.is_meta:
        return
    if signal == "waveform":
        start_as_block_cosines(weight, stride, padding)
    else:
        start_as_selection(weight, stride, padding)


def project(inputs: int, outputs: int, causal: bool = False) -> nn.Conv1d:
    """[B, inputs, T] -> [B, outputs, T] with a kernel of 3, initialized to copy the first channels."""
    layer = CausalConv1d(inputs, outputs, 3) if causal else nn.Conv1d(inputs, outputs, 3, padding=1)
    if layer.weight.is_meta:
        return layer
    with torch.no_grad():
        layer.weight.mul_(RANDOM_SHARE)
        channel = torch.arange(min(inputs, outputs))
        layer.weight[channel, channel, 2 if causal else 1] += 1
    return layer


def silent_head(inputs: int, outputs: int, bias: float = 0.0) -> nn.Conv1d:
    """[B, inputs, T] -> [B, outputs, T], initialized to return the constant `bias`."""
    layer = nn.Conv1d(inputs, outputs, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias)
    return layer


def _whitening(config: TrunkConfig, stage: int, channels: int) -> list[tuple[str, nn.Module]]:
    """What a stage has beside its layers, by name, so that the numbers of the layers do not depend on it."""
    return [("whitening", Whitening(channels))] if config.whiten and not stage else []


class Encoder(nn.Module):
    """[B, inputs, T] -> features of each stage, from the finest to the coarsest: [B, C_i, T_i].

    Args:
        inputs: Channels of the representation.
        config: Shape of the trunk.
        signal: What those channels are; decides the initialization of the first layer.
    """

    def __init__(self, inputs: int, config: TrunkConfig, signal: Signal) -> None:
        super().__init__()
        widths = [inputs, *config.channels]
        self.stages = nn.ModuleList(
            nn.Sequential(
                OrderedDict(
                    [
                        ("0", downsample(before, after, stride, "features" if i else signal, config.causal)),
                        *_whitening(config, i, after),
                        ("1", residual_stack(after, config.blocks, config.kernel, config.causal)),
                    ]
                )
            )
            for i, (before, after, stride) in enumerate(zip(widths, config.channels, config.strides, strict=False))
        )

    @property
    def whitening(self) -> Whitening | None:
        """That of the first layer, if it has one."""
        return getattr(self.stages[0], "whitening", None)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, inputs, T] -> one [B, C_i, T_i] for each stage."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Decoder(nn.Module):
    """[B, C_last, T_last] -> [B, outputs, T]: the stages of `Encoder` in reverse order, with the same arguments."""

    def __init__(self, outputs: int, config: TrunkConfig, signal: Signal) -> None:
        super().__init__()
        widths = [outputs, *config.channels]
        stages = [
            nn.Sequential(
                OrderedDict(
                    [
                        ("0", residual_stack(after, config.blocks, config.kernel, config.causal)),
                        *_whitening(config, i, after),
                        ("1", upsample(after, before, stride, "features" if i else signal, config.causal)),
                    ]
                )
            )
            for i, (before, after, stride) in enumerate(zip(widths, config.channels, config.strides, strict=False))
        ]
        self.stages = nn.Sequential(*reversed(stages))

    def forward(self, features: Tensor) -> Tensor:
        """[B, C_last, T_last] -> [B, outputs, T]."""
        return self.stages(features)


@torch.no_grad()
def start_as_projection(down: nn.Linear, up: nn.Linear) -> None:
    """Initializes [latent] -> [D] with orthonormal rows and the map back as its transpose."""
    if down.weight.is_meta:
        return
    nn.init.orthogonal_(down.weight)
    up.weight.copy_(down.weight.T)
    nn.init.zeros_(down.bias)
    nn.init.zeros_(up.bias)


@torch.no_grad()
def start_exactly(model: nn.Module, stride: int, causal: bool) -> None:
    """Makes the layers of whitened towers begin without biases, and the outermost ones as the transform alone.

    Biases, and the random share of the loudest band, would be louder than the highest bands. On the device "meta" there
    are no values to change.

    Args:
        model: Holds an `Encoder` and a `Decoder`.
        stride: Stride of the outermost layers.
        causal: Whether they are causal.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)]
    if layers[0].weight.is_meta:
        return
    for layer in layers:
        is_head = layer.kernel_size == (1,) and not layer.weight.any()  # a `silent_head`: its bias says how it begins
        if layer.bias is not None and not is_head:
            nn.init.zeros_(layer.bias)
    towers = [tower for tower in model.modules() if isinstance(tower, Encoder | Decoder)]
    for tower in towers:
        first = isinstance(tower, Encoder)
        weight = tower.get_submodule("stages.0.0" if first else f"stages.{len(tower.stages) - 1}.1").weight
        assert isinstance(weight, Tensor)
        known = stride * weight.shape[1]
        rest = weight[known:].clone() if first else torch.zeros_like(weight[known:])
        weight.zero_()
        if causal:
            start_as_block_transform(weight, stride, stride if first else 0, "waveform")
        else:
            start_as_lapped_cosines(weight, stride)
        weight[known:] = rest
