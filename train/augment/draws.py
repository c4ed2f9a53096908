"""Random numbers for the rows of a step: hashes, so the same on every device and for every division of a batch."""

from enum import IntEnum

import numpy as np

from shards.splitmix import mix, splitmix64


class Purpose(IntEnum):
    """What a number decides. The numbers are part of the key: one that changes gives runs other data."""

    CROP = 1
    OTHER = 2  # the order of the chunks that are mixed in
    OTHER_CROP = 3
    MIX = 4
    MIX_LEVEL = 5
    REVERSE = 6
    LOWPASS = 7
    CUTOFF = 8
    NOISE = 9
    NOISE_LEVEL = 10
    NOISE_WAVEFORM = 11
    POLARITY = 12
    GAIN = 13
    GAIN_LEVEL = 14
    SWAP = 15
    NOISE_WAVEFORM_RIGHT = 16


class Draws:
    """Numbers for some rows of the global batch of a step, a function of (seed, step, row, purpose).

    There is no state: a row has the same numbers in any process and micro-batch, and after a resume.
    """

    def __init__(self, seed: int, step: int, rows: np.ndarray) -> None:
        """`step` counts from 0, as `Noise` does; `rows` are int64 [n]."""
        self._seed, self._step = seed, step
        self._rows = np.asarray(rows).astype(np.uint64)

    def bits(self, purpose: Purpose) -> np.ndarray:
        """Uniform 64-bit numbers, uint64 [n]."""
        return splitmix64(self._rows ^ np.uint64(mix(self._seed, self._step, purpose)))

    def below(self, limits: np.ndarray, purpose: Purpose) -> np.ndarray:
        """Uniform whole numbers from 0 to `limits` - 1, int64 [n]; limits are from 1 to 2^32."""
        upper = self.bits(purpose) >> np.uint64(32)
        return ((upper * limits.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)

    def uniform(self, purpose: Purpose, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Uniform numbers from `low` to `high`, float64 [n]."""
        return low + (high - low) * ((self.bits(purpose) >> np.uint64(11)) * 2.0**-53)

    def chosen(self, share: float, purpose: Purpose) -> np.ndarray:
        """The places of the rows that belong to a random share of all, int64 [m], ascending."""
        return np.flatnonzero(self.uniform(purpose) < share)


def seed_of_others(seed: int) -> int:
    """The seed of the order in which chunks are mixed in, of 63 bits."""
    return mix(seed, Purpose.OTHER) >> 1
