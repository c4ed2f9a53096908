"""The level that recordings are brought to: in shards, and before a model that was trained on shards hears them."""

import numpy as np

LEVELS = ("peak", "rms", "robust", "none")
PEAK = 0.95  # full scale is 1
RMS = 0.1  # -20 dBFS
RMS_PEAK_LIMIT = 0.99
SILENCE = 1e-4  # -80 dBFS
BLOCK = 1024  # samples of which a robust peak looks at the peak
FEWEST = 20  # blocks of which one may be left out


def block_peaks(audio: np.ndarray) -> np.ndarray:
    """The peaks of each BLOCK samples and of the rest of a recording, or of a piece of it: float32 [n] -> [blocks].

    Of several channels, [n, channels], a peak is the largest over all of them.
    """
    whole = len(audio) // BLOCK * BLOCK
    rows = audio[:whole].reshape(whole // BLOCK, -1) if whole else audio[:0].reshape(0, 1)
    peaks = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    rest = audio[whole:]
    return np.append(peaks, max(rest.max(), -rest.min())) if len(rest) else peaks


def robust_peak(peaks: np.ndarray) -> float:
    """The largest of the block peaks [n] but for one in a thousand, at least one: clicks do not count."""
    left_out = -(-len(peaks) // 1000) if len(peaks) >= FEWEST else 0
    return float(np.partition(peaks, -1 - left_out)[-1 - left_out])


def gain(level: str, peak: float, rms: float, robust: float) -> float:
    """The factor that brings a recording to its level.

    Args:
        level: `peak` (to PEAK), `rms` (to RMS, the peak at most RMS_PEAK_LIMIT), `robust` (the robust peak to PEAK;
            what is above it may be clipped) or `none`.
        peak: The largest magnitude of the recording; below SILENCE it counts as SILENCE, so that noise stays small.
        rms: Its root mean square, bounded alike.
        robust: Its robust peak, bounded alike.
    """
    peak, rms, robust = max(peak, SILENCE), max(rms, SILENCE), max(robust, SILENCE)
    if level == "peak":
        return PEAK / peak
    if level == "robust":
        return PEAK / robust
    if level == "rms":
        return min(RMS / rms, RMS_PEAK_LIMIT / peak)
    return 1.0
