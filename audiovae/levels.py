"""The level that recordings are brought to before a model hears them: that of the shards it was trained on."""

from torch import Tensor

# What shards bring recordings to: the model hears what it was trained on.
LEVELS = ("peak", "rms", "none")
PEAK = 0.95
RMS, RMS_PEAK_LIMIT = 0.1, 0.99
# Quieter recordings than -80 dBFS are not made louder still.
QUIETEST = 1e-4


def gain_of(audio: Tensor, level: str) -> float:
    """What brings a recording [T] to the level of training, one of LEVELS: its peak, its RMS, or nothing."""
    peak = audio.abs().max().clamp_min(QUIETEST).item()
    if level == "rms":
        return min(RMS / audio.double().square().mean().sqrt().clamp_min(QUIETEST).item(), RMS_PEAK_LIMIT / peak)
    return PEAK / peak if level == "peak" else 1.0
