"""Gains that give all bands of the first layer one power, computed from training recordings."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from audiovae.layers.transforms import block_cosines, lapped_cosines

# Bands quieter than this, -70 dBFS at the level of the trunk, are not raised further.
QUIETEST = 3e-4


class Whitening(nn.Module):
    """Scales channels by fixed gains: [B, C, T] -> [B, C, T].

    Attributes:
        gain: [C, 1] float32, 1 until `fit_whitening`. Training does not change it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Buffer(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, T]."""
        return x * self.gain.to(x.dtype)


def whitenings(model: nn.Module) -> list[Whitening]:
    """All whitenings of a model, that of the encoder first."""
    return [module for module in model.modules() if isinstance(module, Whitening)]


@torch.no_grad()
def fit_whitening(model: nn.Module, chunks: Iterable[Tensor], stride: int, causal: bool) -> None:
    """Sets the gains of encoder and decoder from represented training chunks [B, C, T].

    The power of each band is measured with the transform with which the first layer begins, not with the layer, whose
    weights may lie on other processes. Layer channels beyond the bands keep a gain of 1, and in the decoder get that of
    the band in the middle.

    Args:
        model: With a whitening in the encoder and one in the decoder.
        chunks: At least one batch.
        stride: Stride of the first layer, the number of bands.
        causal: Whether the first layer transforms each frame alone.
    """
    total, count = torch.zeros(0), 0
    kernel = block_cosines(stride) if causal else lapped_cosines(stride)
    for chunk in chunks:
        audio = chunk.double().flatten(0, 1)
        bands = audio.unfold(1, kernel.shape[1], stride) @ kernel.T.to(audio)
        power = bands.square().mean(1).unflatten(0, (-1, chunk.shape[1])).sum(0).cpu()  # [C, bands]
        total = power if not count else total + power
        count += len(chunk)
    deviation = (total / count).sqrt().clamp_min(QUIETEST).float()
    # Layer channel b * C + c carries band b of audio channel c.
    own = deviation.T.flatten().unsqueeze(1)
    before, after = whitenings(model)
    known = min(len(own), len(before.gain))
    before.gain[:known] = 1 / own[:known]
    after.gain.fill_(own[:known].median())
    after.gain[:known] = own[:known]
