"""Distances between waveforms. Each returns one value per item and is finite on any finite input."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Windows of 93, 23 and 6 ms at 22,050 Hz, for pitch, timbre and attacks.
RESOLUTIONS = (2048, 512, 128)
# A spectrum below -100 dBFS, relative to a full-scale sine, counts as silent.
MAGNITUDE_FLOOR = 1e-5
# The convergence term divides errors by the root mean square magnitude of the target, and by at least this much. Music
# at full level has 4 to 40 times as much. Without the bound, one silent chunk outweighs sixty loud ones.
QUIET = 1e-3


# The weighted error compares spectra of windows of this many samples, 23 ms at 22,050 Hz.
WEIGHTED_WINDOW = 512
# Mean power of a sample of recordings at the level of the trunk.
USUAL_POWER = 0.15**2
# Power that no ear hears: relative to a frame's mean, as louder bands mask it, and of white noise at -70 dBFS.
MASKED = 1e-4
INAUDIBLE = 1e-7


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each item: [B, ...] and [B, ...] -> [B]."""
    return (output - target).square().flatten(1).mean(1)


def weighted_error(output: Tensor, target: Tensor, exponent: float) -> Tensor:
    """Mean squared error of each item in an STFT, where errors beside loud sound count less.

    The squared error of each bin is divided by the power of the target around it to the given exponent, as in
    perceptual coders, whose noise follows the signal (Atal and Schroeder 1979, "Predictive coding of speech signals and
    subjective error criteria"). It is scaled so that an error in white noise of `USUAL_POWER` counts as in
    `squared_error`; with an exponent of 0 all errors do.

    Args:
        output: [B, C, T], any float type.
        target: [B, C, T].
        exponent: 0 to 1. With 1, an error counts by its ratio to the signal.

    Returns:
        [B] float32, the mean over the channels.
    """
    with torch.autocast(output.device.type, enabled=False):
        channels = output.shape[1]
        output, target = output.float().flatten(0, 1), target.float().flatten(0, 1)
        taper = torch.hann_window(WEIGHTED_WINDOW, device=output.device)
        scale = taper.square().sum()

        def power(audio: Tensor) -> Tensor:
            hop = WEIGHTED_WINDOW // 4
            found = torch.stft(audio, WEIGHTED_WINDOW, hop, window=taper, return_complex=True, pad_mode="constant")
            return (found.real.square() + found.imag.square()) / scale

        around = nn.functional.avg_pool2d(power(target).unsqueeze(1), 3, 1, 1, count_include_pad=False).squeeze(1)
        heard = around + MASKED * around.mean(1, keepdim=True) + INAUDIBLE
        error = power(output - target) * (USUAL_POWER / heard) ** exponent
        return error.flatten(1).mean(1).unflatten(0, (-1, channels)).mean(1)


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
