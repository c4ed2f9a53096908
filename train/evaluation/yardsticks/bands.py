"""Errors by band of frequency: whether the level of each band is right, and whether its waveform is."""

import itertools

import numpy as np

from train.evaluation.measuring.metrics import HIGH_HZ

# Edges of the octave bands in Hz; the last band ends at half the sample rate.
OCTAVES = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)
# Each octave has this many parts for levels; the lowest band is one part.
PARTS = 3
# Levels below this count as this one. With a full-scale sine at 80 dB SPL, it is about the threshold of hearing.
QUIET_DBFS = -80.0
# Largest ratio of signal to noise, for bands without error.
BEST_DB = 100.0
# Length of a frame in seconds; frames overlap by half.
FRAME_S = 0.046


def octave_edges(rate: int) -> list[float]:
    """Edges of the bands in Hz for a sample rate, from 0 to half of it."""
    top = rate / 2
    edges = [edge for edge in OCTAVES if edge < top]
    # A narrow rest would have no bin of its own.
    if len(edges) > 1 and top / edges[-1] < 1.1:
        edges.pop()
    return [*edges, top]


def part_edges(low: float, high: float) -> np.ndarray:
    """Edges of the parts of one band, equally wide on a logarithmic scale."""
    return np.array([low, high]) if low == 0 else np.geomspace(low, high, PARTS + 1)


def power_frames(audio: np.ndarray, size: int) -> np.ndarray:
    """Complex Hann-window spectra of audio [T]: [frames, size / 2 + 1]; power 1 in a bin is a full-scale sine there."""
    padded = np.pad(audio.astype(np.float64), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 2]
    taper = np.hanning(size + 1)[:-1]
    return np.fft.rfft(frames * taper) * 2 / taper.sum()


def band_errors(reference: np.ndarray, output: np.ndarray, rate: int) -> dict[str, np.ndarray | float]:
    """Errors of an output by octave band, bands from `octave_edges`.

    The level of a part of a band in a frame is 10 log10 of the summed power of its bins, at least QUIET_DBFS. Frames
    in which both signals are that quiet do not count. The error of a band is the mean over its parts.

    Args:
        reference, output: [T] each; of stereo [2, T], whose frames count together.
        rate: Hz.

    Returns:
        `level_error`: mean absolute difference of levels in dB, [bands]; `level_bias`: mean difference in dB, output
        minus reference, [bands]; `snr`: 10 log10 of the power of the reference over that of the difference of the
        signals, all frames together, at most BEST_DB, [bands]; NaN where the reference has nothing.
        `level_error_high`: the mean of `level_error` over all parts from HIGH_HZ up, NaN without such a part.
    """
    size = 2 ** round(np.log2(FRAME_S * rate))
    spectra = [
        np.concatenate([power_frames(channel, size) for channel in np.atleast_2d(audio)])
        for audio in (reference, output)
    ]
    powers = [np.abs(each) ** 2 for each in (*spectra, spectra[1] - spectra[0])]
    places = np.arange(size // 2 + 1) * rate / size
    edges = octave_edges(rate)
    found: dict[str, list[float]] = {"level_error": [], "level_bias": [], "snr": []}
    high: list[float] = []
    for low, top in itertools.pairwise(edges):
        inside = (places >= low) & (places < top)
        parts = part_edges(low, top)
        errors = [
            level_difference(powers[0], powers[1], (places >= start) & (places < end))
            for start, end in itertools.pairwise(parts)
        ]
        found["level_error"].append(mean_of([error for error, _ in errors]))
        found["level_bias"].append(mean_of([bias for _, bias in errors]))
        found["snr"].append(ratio_db(powers[0][:, inside].sum(), powers[2][:, inside].sum()))
        high += [error for error, _ in errors] if low >= HIGH_HZ else []
    return {name: np.array(values) for name, values in found.items()} | {"level_error_high": mean_of(high)}


def level_difference(reference: np.ndarray, output: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Mean absolute and mean difference in dB of the levels of some bins [K] of power frames [frames, K]."""
    least = 10 ** (QUIET_DBFS / 10)
    before, after = (np.maximum(power[:, inside].sum(1), least) for power in (reference, output))
    heard = (before > least) | (after > least)
    if not heard.any():
        return float("nan"), float("nan")
    difference = 10 * np.log10(after[heard] / before[heard])
    return float(np.abs(difference).mean()), float(difference.mean())


def ratio_db(signal: float, noise: float) -> float:
    """10 log10 of a ratio of powers, at most BEST_DB; NaN without a signal."""
    if signal <= 0:
        return float("nan")
    return float(min(BEST_DB, 10 * np.log10(signal / max(noise, signal * 10 ** (-BEST_DB / 10)))))


def mean_of(values: list[float]) -> float:
    """The mean of the values that are not NaN; NaN without one."""
    there = [value for value in values if not np.isnan(value)]
    return float(np.mean(there)) if there else float("nan")
