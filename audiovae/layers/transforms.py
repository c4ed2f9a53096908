"""Orthonormal transforms as matrices, with which layers on waveforms begin."""

import math

import torch
from torch import Tensor


def lapped_cosines(bands: int) -> Tensor:
    """The modified discrete cosine transform as a convolution kernel: [bands, 2 * bands], orthonormal rows.

    With a stride of `bands`, analysis and synthesis reconstruct exactly except at the two half frames at the ends
    (Princen, Johnson and Bradley 1987; sine window).
    """
    time = torch.arange(2 * bands).unsqueeze(0) + 0.5
    band = torch.arange(bands).unsqueeze(1) + 0.5
    window = torch.sin(math.pi * time / (2 * bands)) * math.sqrt(2 / bands)
    return window * torch.cos(math.pi / bands * (time + bands / 2) * band)


def block_cosines(bands: int) -> Tensor:
    """The orthonormal cosine transform of a block, DCT-II: [bands, bands] (Ahmed, Natarajan and Rao 1974)."""
    place = (torch.arange(bands) + 0.5).unsqueeze(0)
    cosines = torch.cos(math.pi / bands * torch.arange(bands).unsqueeze(1) * place) * math.sqrt(2 / bands)
    cosines[0] /= math.sqrt(2)
    return cosines
