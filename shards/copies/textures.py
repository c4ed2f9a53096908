"""Textures: acoustic fingerprints of short recordings, such as single drum hits, which have too few landmarks.

A texture is the fine structure of the spectrum of the whole recording: for each of many narrow bands whether it is
stronger than the bands around it, as far as there is sound. It does not depend on where the sound begins, so silence
before and after it does not matter.
"""

from collections.abc import Callable

import numpy as np

BANDS = 1024
WIDTH = 5.4  # Hz of a band
AROUND = 16  # bands on each side that a band is compared with
FAINT = 1e-5  # power of the bands around a band relative to the strongest: what is fainter does not count
LONGEST_S = 2.5  # of a recording that gets a texture; longer ones that use the same notes have similar ones


def texture(read: Callable[[int, int], np.ndarray], samples: int, rate: int) -> np.ndarray:
    """The texture of a recording of at most LONGEST_S: int8 [BANDS], 1 for stronger, -1 for weaker, 0 for no sound.

    Args:
        read: Gives samples: begin, count -> [count] of any type and scale.
        samples: Of the recording.
        rate: Hz. Recordings at different rates cannot be compared.
    """
    size = 1 << max(samples - 1, int(rate / WIDTH)).bit_length()
    spectrum = np.fft.rfft(read(0, samples).astype(np.float32), size)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    edges = np.arange(BANDS + 1) * (WIDTH * size / rate)
    edges = np.minimum(edges.astype(np.int64) + 1, len(power))
    total = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    bands = np.diff(total[edges]) / np.maximum(np.diff(edges), 1)
    level = np.log(np.maximum(bands, 1e-30))
    mean = _around(level)
    near = _around(bands)
    sound = near > FAINT * max(float(near.max()), 1e-30)
    return (np.where(level > mean, 1, -1) * sound).astype(np.int8)


def _around(values: np.ndarray) -> np.ndarray:
    """Mean of the values around each, float64 [n]."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    low, high = np.maximum(place - AROUND, 0), np.minimum(place + AROUND + 1, len(values))
    return (total[high] - total[low]) / (high - low)
