"""Zimtohrli and ViSQOL, measures that model hearing. They need the extra `perceptual`."""

import functools
import importlib.util
import warnings
from typing import Any

import numpy as np
import soxr

from train.errors import TrainError
from train.evaluation.measuring.recordings import mono

# Both are defined at this rate.
PERCEPTUAL_RATE = 48000
# Zimtohrli reads memory that is not its own for signals of less than about 0.1 s. ViSQOL needs a patch of 0.6 s.
SHORTEST_S = {"zimtohrli": 0.25, "visqol": 1.0}
# ViSQOL takes most of a second of a core for a second of audio, so only the begin of some passages is measured.
VISQOL_S = 3.0
# Both divide by the power of the signals. Below this peak, -80 dBFS, a signal is silent.
SILENT = 1e-4
PACKAGES = {"zimtohrli": "zimtohrli", "visqol": "visqol-python"}


def require_packages() -> None:
    """Raises TrainError if zimtohrli or visqol is not installed."""
    missing = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise TrainError(f"--perceptual: {' and '.join(missing)} not installed; run: pip install {' '.join(missing)}")


def at_48_khz(audio: np.ndarray, rate: int) -> np.ndarray:
    """Audio [T] at PERCEPTUAL_RATE, float32 in one piece of memory, resampled by soxr."""
    return np.ascontiguousarray(soxr.resample(audio, rate, PERCEPTUAL_RATE), dtype=np.float32)


def usable(name: str, reference: np.ndarray, output: np.ndarray) -> bool:
    """Whether a measure has a value for these signals at 48 kHz: long enough, and neither of them silent."""
    long = len(reference) >= SHORTEST_S[name] * PERCEPTUAL_RATE
    return long and all(np.abs(audio).max() > SILENT for audio in (reference, output))


def zimtohrli(reference: np.ndarray, output: np.ndarray) -> float:
    """Mean opinion score by Zimtohrli of [T] at 48 kHz, 1 to 5; NaN for silence and short signals.

    A full-scale sine is taken to be at 80 dB SPL, the default of the package.
    """
    from zimtohrli import mos_from_signals

    return float(mos_from_signals(reference, output)) if usable("zimtohrli", reference, output) else float("nan")


def zimtohrli_of(reference: np.ndarray, output: np.ndarray, rate: int) -> float:
    """Zimtohrli of audio, [T] or [A, T] at `rate` Hz: the mean over the channels in which the reference has sound.

    NaN without such a channel, and where the output of one of them is silent: a model gains nothing by leaving it out.
    """
    both = zip(np.atleast_2d(reference), np.atleast_2d(output), strict=True)
    pairs = [[at_48_khz(audio, rate) for audio in pair] for pair in both]
    values = [zimtohrli(*pair) for pair in pairs if np.abs(pair[0]).max(initial=0) > SILENT]
    return float(np.mean(values)) if values else float("nan")


def visqol(reference: np.ndarray, output: np.ndarray) -> float:
    """MOS-LQO by ViSQOL in audio mode of the first VISQOL_S of [T] at 48 kHz, 1 to 4.73; NaN as for `zimtohrli`.

    ViSQOL scales the output to the level of the reference, so it assumes no level of playback.
    """
    length = int(VISQOL_S * PERCEPTUAL_RATE)
    pair = [audio[:length].astype(np.float64) for audio in (reference, output)]
    if not usable("visqol", *pair):
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(_visqol().measure_from_arrays(*pair, PERCEPTUAL_RATE).moslqo)
        except (ValueError, RuntimeError):  # nothing in the reference to compare
            return float("nan")


@functools.cache
def _visqol() -> Any:
    """ViSQOL with its model for music, which is read once."""
    from visqol import VisqolApi

    result = VisqolApi()
    result.create(mode="audio")
    return result


def measure_perceptual(reference: np.ndarray, output: np.ndarray, rate: int, with_visqol: bool) -> dict[str, float]:
    """`zimtohrli` of a passage and, on request, `visqol` of its begin; else NaN.

    Of stereo, [2, T], Zimtohrli is as in `zimtohrli_of`, and ViSQOL that of the mean of the channels: both know mono
    only.
    """
    found = {"zimtohrli": zimtohrli_of(reference, output, rate), "visqol": float("nan")}
    if with_visqol:
        found["visqol"] = visqol(*(at_48_khz(mono(audio), rate) for audio in (reference, output)))
    return found
