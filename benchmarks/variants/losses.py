"""Other distances of waveforms in place of the STFT distance of training, each one value for each item.

They change the loss term `stft` only; what is measured stays.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torchaudio
from torch import Tensor

from audiovae.layers.losses import stft_distance, stft_magnitude

WINDOWS = (2048, 1024, 512, 256, 128, 64, 32)
# Mel bands of each of the WINDOWS, as in DAC (Kumar et al. 2023).
MEL_BANDS = (320, 160, 80, 40, 20, 10, 5)
# The two filters of the K weighting at 48 kHz (ITU-R BS.1770-4, tables 1 and 2), numerator and denominator.
SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
K_RATE = 48000
# Frequencies and delays are compared in these windows. They count this much beside the STFT distance.
PHASE_WINDOWS = (2048, 512)
PHASE_WEIGHT = 0.2
# Keeps the slope of the magnitude finite.
SMALL = 1e-12


def seven_windows(output: Tensor, target: Tensor, rate: int) -> Tensor:
    """The STFT distance with the WINDOWS: [B, C, T] twice -> [B]."""
    return stft_distance(output, target, WINDOWS)


def with_mel(output: Tensor, target: Tensor, rate: int) -> Tensor:
    """The mean of the STFT distance and the multi-scale distance of log-mel magnitudes: [B, C, T] twice -> [B]."""
    return 0.5 * (stft_distance(output, target) + multi_scale_mel(output, target, rate))


def multi_scale_mel(output: Tensor, target: Tensor, rate: int) -> Tensor:
    """The mean absolute difference of natural logarithms of mel magnitudes over all WINDOWS: [B, C, T] twice -> [B]."""
    channels = output.shape[1]
    output, target = output.float().flatten(0, 1), target.float().flatten(0, 1)
    total = output.new_zeros(len(output))
    for window, bands in zip(WINDOWS, MEL_BANDS, strict=True):
        rows = torchaudio.functional.melscale_fbanks(
            window // 2 + 1, 0.0, rate / 2, bands, rate, norm="slaney", mel_scale="slaney"
        ).T
        rows = rows[rows.sum(1) > 0]  # the lowest bands of many are narrower than a bin
        means = (rows / rows.sum(1, keepdim=True)).to(output)
        guess, truth = (means @ stft_magnitude(audio, window) for audio in (output, target))
        total = total + (guess.log() - truth.log()).abs().flatten(1).mean(1)
    return (total / len(WINDOWS)).unflatten(0, (-1, channels)).mean(1)


def k_weighted(output: Tensor, target: Tensor, rate: int) -> Tensor:
    """The STFT distance of both after the K weighting: [B, C, T] twice -> [B]."""
    gain = k_response(output.shape[2], rate).to(output.device)
    both = (torch.fft.irfft(torch.fft.rfft(audio.float()) * gain, n=audio.shape[2]) for audio in (output, target))
    return stft_distance(*both)


def k_response(samples: int, rate: int) -> Tensor:
    """The magnitude of the K weighting at the frequencies of a real FFT of so many samples: [samples / 2 + 1]."""
    delay = torch.exp(-2j * math.pi * torch.fft.rfftfreq(samples, 1 / rate, dtype=torch.float64) / K_RATE)
    response = torch.ones_like(delay)
    for above, below in (SHELF, HIGH_PASS):
        response = response * _polynomial(above, delay) / _polynomial(below, delay)
    return response.abs().float()


def _polynomial(factors: Sequence[float], of: Tensor) -> Tensor:
    first, second, third = factors
    return first + second * of + third * of.square()


def with_phase(output: Tensor, target: Tensor, rate: int) -> Tensor:
    """The STFT distance and differences of instantaneous frequency and group delay: [B, C, T] twice -> [B].

    The instantaneous frequency is the step of the phase from frame to frame, the group delay that from bin to bin.
    Their differences count as 1 - cos, weighted by the magnitude of the target.
    """
    channels = output.shape[1]
    found = stft_distance(output, target)
    output, target = output.float().flatten(0, 1), target.float().flatten(0, 1)
    total = output.new_zeros(len(output))
    for window in PHASE_WINDOWS:
        taper = torch.hann_window(window, device=output.device)
        guess, truth = (
            torch.stft(audio, window, window // 4, window=taper, return_complex=True, pad_mode="constant")
            for audio in (output, target)
        )
        for axis in (1, 2):
            total = total + _steps_apart(guess, truth, axis)
    mean = total / (2 * len(PHASE_WINDOWS))
    return found + PHASE_WEIGHT * mean.unflatten(0, (-1, channels)).mean(1)


def _steps_apart(guess: Tensor, truth: Tensor, axis: int) -> Tensor:
    """1 - cos of the difference of phase steps along an axis of spectra [B, bins, frames], weighted: [B]."""

    def steps(spectrum: Tensor) -> tuple[Tensor, Tensor]:
        count = spectrum.shape[axis] - 1
        product = spectrum.narrow(axis, 1, count) * spectrum.narrow(axis, 0, count).conj()
        size = (product.real.square() + product.imag.square() + SMALL).sqrt()
        return product / size, size

    (own, _), (wanted, size) = steps(guess), steps(truth)
    weight = (size - SMALL**0.5).clamp_min(0).sqrt()  # none for silence
    apart = 1 - (own.real * wanted.real + own.imag * wanted.imag)
    return (weight * apart).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1e-6)


LOSSES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "windows": seven_windows,
    "mel": with_mel,
    "weighted": k_weighted,
    "phase": with_phase,
}
