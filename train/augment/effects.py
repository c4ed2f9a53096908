"""Changes of audio, each for all rows at once: audio is float32 with full scale 1, on any device.

It is [n, T], or [n, channels, T], whose channels change alike.
"""

from functools import cache

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
# Samples of noise from one hash, and the values that a sample can have.
PARTS, LEVELS = 4, 1 << 16


def white_noise(bits: Tensor, samples: int) -> Tensor:
    """White noise, normal with variance 1, the same on every device: [n, samples] float32.

    Four samples are the 16-bit parts of a hash (Steele, Lea and Flood 2014, "SplitMix"), through a table of the normal
    distribution. That takes whole numbers alone, which no device rounds in its own way.

    Args:
        bits: [n] int64, what the noise of a row is a function of.
        samples: Samples of a row.
    """
    value = bits[:, None] + torch.arange(1, -(-samples // PARTS) + 1, device=bits.device) * _signed(GOLDEN)
    for shift, factor in MIXERS:
        value ^= (value >> shift) & ((1 << (64 - shift)) - 1)  # a logical shift
        value *= _signed(factor)
    places = value.view(torch.int16).int().add_(LEVELS // 2)
    drawn = _normal().to(bits.device, non_blocking=True).index_select(0, places.view(-1))
    return drawn.view(len(bits), -1)[:, :samples]


@cache
def _normal() -> Tensor:
    """Values of the standard normal distribution at evenly spaced probabilities, [LEVELS] float32 on the CPU."""
    return torch.special.ndtri((torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS).float()


def _signed(number: int) -> int:
    """The int64 with the bits of a number of 64 bits."""
    return number - (1 << 64) if number >> 63 else number


def lowpass(audio: Tensor, cutoff: Tensor, rate: int) -> Tensor:
    """Audio without what is above `cutoff`, [n] in Hz: the magnitude of a Butterworth filter, and no phase shift."""
    if audio.ndim == 3:
        channels = audio.shape[1]
        return lowpass(audio.flatten(0, 1), cutoff.repeat_interleave(channels), rate).unflatten(0, (-1, channels))
    samples = audio.shape[1]
    margin = min(MARGIN, samples - 1)
    # More of the reflection for a length whose transform is fast, if there is enough of it.
    behind = min(fast_length(samples + 2 * margin) - samples - margin, samples - 1)
    # Reflected at both ends: the filter is circular, and would carry the end of a chunk to its beginning.
    whole = pad(audio, (margin, behind), mode="reflect")
    length = whole.shape[1]
    frequency = torch.fft.rfftfreq(length, 1 / rate, device=audio.device)
    response = (1 + (frequency / cutoff[:, None]) ** (2 * ORDER)).rsqrt()
    filtered = torch.fft.irfft(torch.fft.rfft(whole) * response, length)
    return filtered[:, margin : margin + samples]


def fast_length(least: int) -> int:
    """The smallest number from `least` on without prime factors above 5: their transforms are fast."""
    powers = [3**i * 5**j for i in range(20) for j in range(14)]
    return min(power << max(0, (-(-least // power) - 1).bit_length()) for power in powers)


def with_noise(audio: Tensor, noise: Tensor, ratio: Tensor) -> Tensor:
    """Audio with noise of variance 1 added, so that the ratio of their amplitudes is `ratio`, [n].

    Of several channels the amplitude is that over all of them: each has as much noise.
    """
    level = audio.flatten(1).square().mean(1).sqrt() / ratio
    return audio + noise * level.view(-1, *[1] * (audio.ndim - 1))


def fitted(audio: Tensor) -> Tensor:
    """Audio whose rows above full scale are scaled down to it; the others stay as they are, bit for bit.

    The channels of a row keep their ratio.
    """
    return audio / audio.abs().amax([*range(1, audio.ndim)], keepdim=True).clamp(min=1.0)
