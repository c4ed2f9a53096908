"""Changes of audio, each for all rows at once: audio is float32 [n, T] with full scale 1, on any device."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from audiovae.layers.noise import MIXERS

# Distance of the numbers that are hashed one after the other: 2^64 divided by the golden ratio.
GOLDEN = 0x9E3779B97F4A7C15
# Order of the Butterworth response of the low-pass filter: 6 dB an octave each.
ORDER = 8
# Samples by which audio is continued at both ends before it is filtered.
MARGIN = 1024
# Sum of four uniform whole numbers of 16 bits: its mean, and its variance.
MEAN, VARIANCE = 2 * 0xFFFF, (2**32 - 1) / 3


def white_noise(bits: Tensor, samples: int) -> Tensor:
    """White noise of mean 0 and variance 1, the same on every device: [n, samples] float32.

    Each sample is the sum of the four 16-bit parts of a hash (Steele, Lea and Flood 2014, "SplitMix"). That is close to
    a normal distribution and takes whole numbers alone, which no device rounds in its own way.

    Args:
        bits: [n] int64, what the noise of a row is a function of.
        samples: Samples of a row.
    """
    value = bits[:, None] + torch.arange(1, samples + 1, device=bits.device) * _signed(GOLDEN)
    for shift, factor in MIXERS:
        value ^= (value >> shift) & ((1 << (64 - shift)) - 1)  # a logical shift
        value *= _signed(factor)
    total = value & 0xFFFF
    for shift in (16, 32, 48):
        total += (value >> shift) & 0xFFFF
    return (total - MEAN).float().mul_(VARIANCE**-0.5)


def _signed(number: int) -> int:
    """The int64 with the bits of a number of 64 bits."""
    return number - (1 << 64) if number >> 63 else number


def lowpass(audio: Tensor, cutoff: Tensor, rate: int) -> Tensor:
    """Audio without what is above `cutoff`, [n] in Hz: the magnitude of a Butterworth filter, and no phase shift."""
    margin = min(MARGIN, audio.shape[1] - 1)
    # Reflected at both ends: the filter is circular, and would carry the end of a chunk to its beginning.
    whole = pad(audio, (margin, margin), mode="reflect")
    frequency = torch.fft.rfftfreq(whole.shape[1], 1 / rate, device=audio.device)
    response = (1 + (frequency / cutoff[:, None]) ** (2 * ORDER)).rsqrt()
    filtered = torch.fft.irfft(torch.fft.rfft(whole) * response, whole.shape[1])
    return filtered[:, margin : margin + audio.shape[1]]


def with_noise(audio: Tensor, noise: Tensor, ratio: Tensor) -> Tensor:
    """Audio with noise of variance 1 added, so that the ratio of their amplitudes is `ratio`, [n]."""
    return audio + noise * (audio.square().mean(1).sqrt() / ratio)[:, None]


def fitted(audio: Tensor) -> Tensor:
    """Audio whose rows above full scale are scaled down to it; the others stay as they are, bit for bit."""
    return audio / audio.abs().amax(1, keepdim=True).clamp(min=1.0)
