"""Layers that stay in float32 under autocast: those next to a waveform.

A waveform in bfloat16 has an error 45 dB below its loudest bands, in all bands alike, which is too much for quiet upper
bands. Beyond these layers bands are channels, and the error of each is 45 dB below its own level.
"""

from typing import Any

import torch
from torch import Tensor, nn

from audiovae.layers.causal import CausalConv1d, CausalConvTranspose1d


class InFloat32(nn.Module):
    """Before a layer's class: it computes in float32, also under autocast."""

    def forward(self, input: Tensor, *rest: Any) -> Tensor:
        """As that of the layer; the output is float32."""
        if not torch.is_autocast_enabled(input.device.type):
            return super().forward(input, *rest)
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float(), *rest)


class FromWaveform(InFloat32):
    """The same for a layer that takes a waveform: its output, in which bands are channels, has the type of autocast."""

    def forward(self, input: Tensor, *rest: Any) -> Tensor:
        """As that of the layer."""
        kind = input.device.type
        output = super().forward(input, *rest)
        return output.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else output


class WaveformConv1d(FromWaveform, nn.Conv1d):
    """`nn.Conv1d` on a waveform."""


class CausalWaveformConv1d(FromWaveform, CausalConv1d):
    """`CausalConv1d` on a waveform."""


class WaveformConvTranspose1d(InFloat32, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d` that makes a waveform."""


class CausalWaveformConvTranspose1d(InFloat32, CausalConvTranspose1d):
    """`CausalConvTranspose1d` that makes a waveform."""
