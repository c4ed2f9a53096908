"""The level that recordings are brought to: in shards, and before a model that was trained on shards hears them."""

LEVELS = ("peak", "rms", "none")
PEAK = 0.95  # full scale is 1
RMS = 0.1  # -20 dBFS
RMS_PEAK_LIMIT = 0.99
SILENCE = 1e-4  # -80 dBFS


def gain(level: str, peak: float, rms: float) -> float:
    """The factor that brings a recording to its level.

    Args:
        level: `peak` (to PEAK), `rms` (to RMS, the peak at most RMS_PEAK_LIMIT) or `none`.
        peak: The largest magnitude of the recording; below SILENCE it counts as SILENCE, so that noise stays small.
        rms: Its root mean square, bounded alike.
    """
    peak, rms = max(peak, SILENCE), max(rms, SILENCE)
    if level == "peak":
        return PEAK / peak
    if level == "rms":
        return min(RMS / rms, RMS_PEAK_LIMIT / peak)
    return 1.0
