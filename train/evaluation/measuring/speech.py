"""PESQ and STOI, measures of speech quality and intelligibility. They need the extra `speech`."""

import importlib.util
import warnings

import numpy as np
import soxr

from train.errors import TrainError

# Wide-band PESQ is defined at this rate, and STOI resamples to 10 kHz.
SPEECH_RATE = 16000
# PESQ aligns utterances and is designed for recordings of 8 to 12 seconds.
PIECE_S = 10.0
# Pieces per recording, spread evenly: PESQ is slow, a large part of real time.
MAX_PIECES = 6
# A shorter piece has too few frames for STOI.
MIN_S = 0.5


def require_packages() -> None:
    """Raises TrainError if pesq or pystoi is not installed."""
    missing = [name for name in ("pesq", "pystoi") if importlib.util.find_spec(name) is None]
    if missing:
        raise TrainError(f"--speech: {' and '.join(missing)} not installed; run: pip install {' '.join(missing)}")


def pesq(reference: np.ndarray, output: np.ndarray) -> float:
    """Wide-band PESQ (ITU-T P.862.2) of [T] at 16 kHz: MOS-LQO of 1.04 to 4.64; NaN where it detects no speech."""
    from pesq import PesqError
    from pesq import pesq as wide_band

    try:
        return float(wide_band(SPEECH_RATE, reference, output, "wb"))
    except PesqError:
        return float("nan")


def stoi(reference: np.ndarray, output: np.ndarray) -> float:
    """STOI (Taal et al. 2011) of [T] at 16 kHz, up to 1; NaN with less than 0.4 s above its silence threshold."""
    from pystoi import stoi as intelligibility

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(intelligibility(reference, output, SPEECH_RATE))
        except RuntimeWarning:
            return float("nan")


def pieces(length: int, rate: int) -> list[slice]:
    """Up to MAX_PIECES pieces of up to PIECE_S, spread evenly over `length` samples; none shorter than MIN_S."""
    size = int(PIECE_S * rate)
    starts = [first for first in range(0, length, size) if length - first >= MIN_S * rate]
    taken = min(len(starts), MAX_PIECES)
    return [slice(starts[i * len(starts) // taken], starts[i * len(starts) // taken] + size) for i in range(taken)]


def measure_speech(reference: np.ndarray, output: np.ndarray, rate: int) -> tuple[float, float]:
    """PESQ and STOI of a recording: means over its pieces; NaN where no piece has a value.

    Args:
        reference, output: [T] float32.
        rate: Hz; both are resampled to 16 kHz by soxr.
    """
    found = []
    for part in pieces(len(reference), rate):
        pair = [np.ascontiguousarray(soxr.resample(audio[part], rate, SPEECH_RATE)) for audio in (reference, output)]
        # Silence has no value: PESQ divides by the power of the signal.
        values = (pesq(*pair), stoi(*pair)) if all(np.abs(audio).max() > 1e-4 for audio in pair) else (np.nan, np.nan)
        found.append(values)
    columns = np.array(found, np.float64).reshape(-1, 2).T
    means = [float(column[~np.isnan(column)].mean()) if (~np.isnan(column)).any() else np.nan for column in columns]
    return means[0], means[1]
