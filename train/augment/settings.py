"""Settings of the augmentation of training chunks."""

import math
from dataclasses import dataclass

from jsonargparse.typing import ClosedUnitInterval

# Decibels, so that no factor is 0 or infinite in float32.
MOST_DB = 100.0
# Settings that are a share of the chunks: the changes there are.
AUGMENTATIONS = ("mix", "reverse", "swap", "lowpass", "noise", "polarity", "gain")
# Those that need two channels.
OF_STEREO = ("swap",)


@dataclass
class AugmentConfig:
    """Random changes of training chunks, off by default. Each is drawn for each chunk from seed, step and row.

    The model's input and the target of its losses are the changed audio. Held-out chunks are never changed. The changes
    are made in the order of this list, with `gain` as the last one. Where the peak of the result is above full scale,
    the chunk is scaled down to full scale, so nothing is clipped.

    Attributes:
        mix: Share of the chunks to which another training chunk is added.
        mix_db: Range of the other chunk's gain in dB.
        reverse: Share of the chunks that run backwards.
        swap: Share of the chunks whose left and right channel are exchanged. Mono data has none.
        lowpass: Share of the chunks that pass through a low-pass filter without phase shift, 48 dB an octave.
        lowpass_hz: Range of its cutoff in Hz, drawn evenly on a logarithmic scale.
        noise: Share of the chunks to which white noise is added, another one in each channel. The model then learns to
            reproduce the noise too.
        noise_db: Range of the signal-to-noise ratio in dB.
        polarity: Share of the chunks whose samples change their sign.
        gain: Share of the chunks whose level changes.
        gain_db: Range of the change in dB.
    """

    mix: ClosedUnitInterval = 0.0
    mix_db: tuple[float, float] = (-20.0, 0.0)
    reverse: ClosedUnitInterval = 0.0
    swap: ClosedUnitInterval = 0.0
    lowpass: ClosedUnitInterval = 0.0
    lowpass_hz: tuple[float, float] = (1000.0, 10000.0)
    noise: ClosedUnitInterval = 0.0
    noise_db: tuple[float, float] = (20.0, 60.0)
    polarity: ClosedUnitInterval = 0.0
    gain: ClosedUnitInterval = 0.0
    gain_db: tuple[float, float] = (-12.0, 6.0)

    def __post_init__(self) -> None:
        for name in ("mix_db", "noise_db", "gain_db"):
            low, high = getattr(self, name)
            if not -MOST_DB <= low <= high <= MOST_DB:
                raise ValueError(
                    f"augment.{name} is [{low:g},{high:g}]: two values in dB from {-MOST_DB:g} to {MOST_DB:g}, "
                    "the lower one first"
                )
        for name in AUGMENTATIONS:
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ValueError(f"augment.{name} is {share}: a share from 0 to 1")
        low, high = self.lowpass_hz
        if not (0 < low <= high and math.isfinite(high)):
            raise ValueError(
                f"augment.lowpass_hz is [{low:g},{high:g}]: two frequencies in Hz above 0, the lower one first"
            )

    @property
    def active(self) -> bool:
        """Whether any chunk may be changed."""
        return any(getattr(self, name) for name in AUGMENTATIONS)
