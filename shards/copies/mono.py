"""A recording of two channels as mono, so that its fingerprint is that of the same recording in a mono data set."""

from collections.abc import Callable

import numpy as np

from shards.audio.mixing import CANCELLED, LEAST_FRAMES, SAMPLED

BLOCK = 1 << 18  # samples looked at together


def mono_reader(
    read: Callable[[int, int], np.ndarray], samples: int, channels: int
) -> Callable[[int, int], np.ndarray]:
    """Reads the mean of the channels, or the loudest channel where they cancel each other, as mono data sets do.

    Args:
        read: Gives samples: begin, count -> int16 [count * channels], interleaved.
        samples: Of each channel.
        channels: Of the recording; with one, `read` itself is returned.

    Returns:
        Begin, count -> float32 [count].
    """
    if channels == 1:
        return read

    def rows(begin: int, count: int) -> np.ndarray:
        return read(begin, count).reshape(-1, channels)

    power, mixed, frames = np.zeros(channels), 0.0, 0
    for begin in range(0, samples, BLOCK):
        some = rows(begin, min(BLOCK, samples - begin))[::SAMPLED].astype(np.float64)
        power += np.square(some).sum(axis=0)
        mixed += float(np.square(some.mean(axis=1)).sum())
        frames += len(some)
    loudest = int(power.argmax())
    if frames >= LEAST_FRAMES and mixed < CANCELLED * power[loudest]:
        return lambda begin, count: rows(begin, count)[:, loudest].astype(np.float32)
    return lambda begin, count: rows(begin, count).mean(axis=1, dtype=np.float32)
