"""Distances between waveforms. Each returns one value per item and is finite on any finite input."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Windows of 93, 23 and 6 ms at 22,050 Hz, for pitch, timbre and attacks.
RESOLUTIONS = (2048, 512, 128)
# A spectrum below -100 dBFS, relative to a full-scale sine, counts as silent.
MAGNITUDE_FLOOR = 1e-5
# The convergence term divides errors by the root mean square magnitude of the target, and by at least this much. Music
# at full level has 4 to 40 times as much. Without the bound, one silent chunk outweighs sixty loud ones.
QUIET = 1e-3


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each item: [B, ...] and [B, ...] -> [B]."""
    return (output - target).square().flatten(1).mean(1)


def stft_magnitude(audio: Tensor, window: int) -> Tensor:
    """STFT magnitudes with a Hann window, scaled so that a full-scale sine peaks at 0.5.

    Args:
        audio: [B, T] float32.
        window: Window and FFT size in samples; the hop is a quarter of it.

    Returns:
        [B, window / 2 + 1, frames].
    """
    taper = torch.hann_window(window, device=audio.device, dtype=audio.dtype)
    spectrum = torch.stft(audio, window, hop_length=window // 4, window=taper, return_complex=True, pad_mode="constant")
    # The slope of a square root is infinite at zero, so the sum of squares is kept above it.
    power = spectrum.real.square() + spectrum.imag.square()
    scale = taper.sum()
    return (power + (MAGNITUDE_FLOOR * scale) ** 2).sqrt() / scale


def stft_distance(output: Tensor, target: Tensor, resolutions: Sequence[int] = RESOLUTIONS) -> Tensor:
    """Multi-resolution STFT distance of each item.

    Spectral convergence plus the mean absolute log-magnitude difference, averaged over resolutions
    (Yamamoto, Song and Kim 2020, "Parallel WaveGAN", equations 4 to 6), with two changes. Each item is normalised by
    its own energy, and both that energy and the magnitudes have a floor, so that silence gives values and gradients of
    the same order as music.

    Args:
        output: [B, C, T], any float type.
        target: [B, C, T].
        resolutions: Window sizes in samples, each at most 2 T.

    Returns:
        [B] float32, the mean over the channels, each of which is compared alone.
    """
    with torch.autocast(output.device.type, enabled=False):
        channels = output.shape[1]
        output, target = output.float().flatten(0, 1), target.float().flatten(0, 1)
        total = output.new_zeros(output.shape[0])
        for window in resolutions:
            guess, truth = stft_magnitude(output, window), stft_magnitude(target, window)
            level = (truth.square().flatten(1).mean(1) + QUIET**2).sqrt()
            convergence = (guess - truth).flatten(1).norm(dim=1) / (level * truth[0].numel() ** 0.5)
            log_difference = (guess.log() - truth.log()).abs().flatten(1).mean(1)
            total = total + convergence + log_difference
        return (total / len(resolutions)).unflatten(0, (-1, channels)).mean(1)
