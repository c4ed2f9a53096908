"""The delay of a decoded signal, to a fraction of a sample, and signals without it."""

import numpy as np

# Computed values of the cross-correlation for each sample of delay.
STEPS = 20
# The largest delay that is looked for, in seconds. A wider search would find other periods of periodic sounds.
MOST_S = 0.05


def fast_size(length: int) -> int:
    """The smallest power of two of at least `length`, for fast transforms."""
    return 1 << (length - 1).bit_length()


def delay_of(reference: np.ndarray, output: np.ndarray, most: int) -> float:
    """The delay of `output` in samples, where the cross-correlation is largest; of broad-band sound to a hundredth.

    Between samples, the cross-correlation of the band-limited signals is its exact trigonometric interpolation. It is
    computed at multiples of 1 / STEPS, and a parabola goes through the largest value and its neighbours.

    Args:
        reference, output: [T] each; of stereo [2, T], whose cross-correlations are added.
        most: The largest delay in samples, positive or negative.
    """
    size = fast_size(max(reference.shape[-1], output.shape[-1]) + most + 1)
    cross = np.conj(np.fft.rfft(reference.astype(np.float64), size)) * np.fft.rfft(output.astype(np.float64), size)
    cross = np.atleast_2d(cross).sum(0)
    correlation = np.fft.irfft(cross, size)
    lags = np.arange(-most, most + 1)
    whole = int(lags[np.argmax(correlation[lags])])
    turns = 2j * np.pi * np.arange(len(cross)) / size
    # One small rotation at a time: a table of all rotations would not fit into the cache.
    turned, step = cross * np.exp(turns * (whole - 1)), np.exp(turns / STEPS)
    values = []
    for _ in range(2 * STEPS + 1):
        values.append(turned.real.sum())
        turned *= step
    place = int(np.argmax(values))
    if not 0 < place < 2 * STEPS:
        return whole - 1 + place / STEPS
    before, peak, after = values[place - 1 : place + 2]
    bend = before - 2 * peak + after
    offset = (before - after) / (2 * bend) if bend < 0 else 0.0
    # Rounded, so that a whole number of samples is found as one.
    return round(whole - 1 + (place + offset) / STEPS, 6)


def advanced(audio: np.ndarray, delay: float) -> np.ndarray:
    """Audio, [T] or [2, T], earlier by `delay` samples, which may be fractional; silence follows its end: float32."""
    length = audio.shape[-1]
    size = fast_size(length + 2 * int(np.ceil(abs(delay))) + 1)
    spectrum = np.fft.rfft(audio.astype(np.float64), size)
    turned = spectrum * np.exp(2j * np.pi * np.arange(spectrum.shape[-1]) / size * delay)
    return np.fft.irfft(turned, size)[..., :length].astype(np.float32)


def aligned(reference: np.ndarray, output: np.ndarray, rate: int) -> np.ndarray:
    """`output` without its delay to `reference`, cut or padded to its length: [T] or [2, T] float32."""
    delay = delay_of(reference, output, int(MOST_S * rate))
    length = reference.shape[-1]
    result = advanced(output, delay)[..., :length]
    return np.pad(result, [(0, 0)] * (result.ndim - 1) + [(0, length - result.shape[-1])])
