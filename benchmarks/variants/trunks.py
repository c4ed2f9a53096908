"""The trunks of other codecs from their packages, in place of ours in a VAE.

Bottleneck, levels of the upper bands, losses and training stay. The strides multiply to those of the preset, so that
all have the same latents. The widths give each tower about as many parameters as the preset's (`Size.parameters`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from audiovae.models.vae import VAE
from benchmarks.variants.multiband import Multiband

STRIDES = [2, 5, 7, 7]
BANDS = 14  # RAVE has 16, which does not divide our chunks
BANDED_STRIDES = [5, 7]


@dataclass(frozen=True)
class Size:
    """The widths of all trunks, and the parameters of a tower of ours that they are made for.

    Attributes:
        parameters: Of a tower.
        dac, oobleck: Widths next to the waveform, of the encoder and the decoder.
        seanet, banded: The same of both towers.
    """

    parameters: int
    dac: tuple[int, int]
    oobleck: tuple[int, int]
    seanet: int
    banded: int


# That of vae_tiny, and that of the default preset of the VAE, which is made for GPUs.
TINY = Size(680_000, dac=(11, 160), oobleck=(11, 10), seanet=8, banded=44)
DEFAULT = Size(13_819_000, dac=(52, 756), oobleck=(52, 47), seanet=40, banded=242)

Towers = tuple[nn.Module, nn.Module]
"""[B, 1, T] -> [B, width, frames] and back."""


class OneStage(nn.Module):
    """A tower with the interface of `audiovae.layers.trunk.Encoder`: a list with the features of its only stage."""

    whitening = None

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 1, T] -> [[B, width, frames]]."""
        return [self.tower(x)]


def dac(width: int, samples: int, size: Size) -> Towers:
    """The towers of DAC (Kumar et al. 2023) from transformers, with weight normalisation as in training."""
    from transformers import DacConfig, DacModel

    config = DacConfig(
        encoder_hidden_size=size.dac[0],
        downsampling_ratios=STRIDES,
        decoder_hidden_size=size.dac[1],
        n_codebooks=1,
        codebook_size=2,
    )
    model = DacModel(config)
    model.encoder.conv2 = nn.Conv1d(config.hidden_size, width, 3, padding=1)
    model.decoder.conv1 = nn.Conv1d(width, config.decoder_hidden_size, 7, padding=3)
    for layer in (model.encoder.conv2, model.decoder.conv1):
        model._init_weights(layer)  # that of its other convolutions
    model.apply_weight_norm()
    return model.encoder, with_exact_lengths(model.decoder)


def seanet(width: int, samples: int, size: Size) -> Towers:
    """The towers of EnCodec (Défossez et al. 2022) from transformers: SEANet."""
    return _seanet(width, 1, STRIDES, size.seanet, lstm=True)


def _seanet(width: int, inputs: int, strides: list[int], filters: int, lstm: bool) -> Towers:
    """SEANet on any number of channels."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(
        audio_channels=inputs,
        hidden_size=width,
        num_filters=filters,
        upsampling_ratios=strides[::-1],
        use_causal_conv=False,
        sampling_rate=100 * prod(strides),  # gives the number of codebooks, which are not used
        target_bandwidths=[1.0],
    )
    model = EncodecModel(config)
    for tower in (model.encoder, model.decoder):
        if not lstm:
            tower.layers = nn.ModuleList(layer for layer in tower.layers if type(layer).__name__ != "EncodecLSTM")
    return model.encoder, model.decoder


def banded(width: int, samples: int, size: Size) -> Towers:
    """A filter bank around the towers of EnCodec without LSTM, as RAVE (Caillon and Esling 2021) has its own.

    RAVE's package cannot be installed beside: it needs scipy 1.10 and pytorch-lightning 1.9.
    """
    bank = Multiband(samples, BANDS)
    encoder, decoder = _seanet(width, BANDS, BANDED_STRIDES, size.banded, lstm=False)
    return Banded(bank, encoder, synthesis=False), Banded(bank, decoder, synthesis=True)


def oobleck(width: int, samples: int, size: Size) -> Towers:
    """The towers of stable-audio's autoencoder (Evans et al. 2024) from diffusers."""
    from diffusers import AutoencoderOobleck

    model = AutoencoderOobleck(
        encoder_hidden_size=size.oobleck[0],
        downsampling_ratios=STRIDES,
        channel_multiples=[2, 4, 8, 16],
        decoder_channels=size.oobleck[1],
        decoder_input_channels=width,
        audio_channels=1,
    )
    # Otherwise the encoder ends in as many channels as it begins with.
    model.encoder.conv2 = nn.Conv1d(size.oobleck[0] * 16, width, 3, padding=1)
    parametrizations.weight_norm(model.encoder.conv2)
    for layer in [layer for layer in model.modules() if hasattr(layer, "weight_g")]:
        parametrizations.weight_norm(nn.utils.remove_weight_norm(layer))  # the old form cannot be copied
    return model.encoder, with_exact_lengths(model.decoder)


def with_exact_lengths(decoder: nn.Module) -> nn.Module:
    """Makes layers of odd strides, which lose a sample in these decoders, multiply the length by their stride."""
    for layer in decoder.modules():
        if isinstance(layer, nn.ConvTranspose1d):
            layer.output_padding = (layer.stride[0] % 2,)
    return decoder


class Banded(nn.Module):
    """A tower on the bands of a filter bank: [B, 1, T] -> [B, width, frames], or back if `synthesis`."""

    def __init__(self, bank: Multiband, tower: nn.Module, synthesis: bool) -> None:
        super().__init__()
        self.bank, self.tower, self.synthesis = bank, tower, synthesis

    def forward(self, x: Tensor) -> Tensor:
        """Analysis before the tower, or synthesis after it."""
        return self.bank.render(self.tower(x)) if self.synthesis else self.tower(self.bank.represent(x))


TRUNKS: dict[str, Callable[[int, int, Size], Towers]] = {
    "dac": dac,
    "seanet": seanet,
    "oobleck": oobleck,
    "banded": banded,
}


def with_trunk(model: VAE, kind: str) -> VAE:
    """Puts towers of TRUNKS in place of those of a VAE of waveforms whose strides multiply to that of STRIDES.

    They have the Size with about as many parameters.
    """
    assert isinstance(model.decoder, nn.Sequential)
    own = sum(parameter.numel() for parameter in model.decoder[1].parameters())
    size = min((TINY, DEFAULT), key=lambda size: abs(size.parameters - own))
    with torch.device("cpu"):  # also where only shapes are wanted, as some buffers are not in the state dict
        encoder, decoder = TRUNKS[kind](model.config.trunk.channels[-1], model.samples, size)
    model.encoder.tower = OneStage(encoder)  # type: ignore[assignment]
    model.decoder[1] = decoder
    return model
