"""Landmarks: acoustic fingerprints of recordings that last longer than a moment.

A landmark is three peaks of the spectrogram, as a hash of their frequencies and distances in time, after Wang, "An
industrial-strength audio search algorithm", ISMIR 2003, which takes two. Recordings of the same sound have many
landmarks in common at one and the same lag; codecs, levels and a beginning that is cut off do not change that.
"""

from collections.abc import Callable, Iterator

import numpy as np
import soxr

from shards.splitmix import splitmix64

RATE = 5512.5  # Hz: what is analysed has at least about this rate
FRAME, STEP = 512, 256  # samples of a frame, and from one to the next
BANDS = 8  # of a frame; each gives at most one peak
NEAR = 3  # frames before and after a peak in which its band has no larger one
FAINT = 1e-6  # power of a peak relative to the strongest of its piece; fainter ones are noise of a codec
NEXT = 5  # peaks after the first of a landmark, from which its other two are taken
LONGEST = 31  # frames from its first to its last peak
SHARE, DENSE_SHARE = 8, 2  # one in so many landmarks is kept, chosen by its hash; more of those at the beginning,
DENSE_S = 30.0  # which is all that there is of short recordings
READ = 1 << 15  # samples handled at a time
BATCH = 64  # frames transformed at a time: they stay in the processor's cache
WHOLE_S = 40.0  # of a recording are analysed whole,
PERIOD_S, PIECE_S = 20.0, 4.0  # and after that a piece of every period


def landmarks(read: Callable[[int, int], np.ndarray], samples: int, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The landmarks of a recording: their hashes and the frames of their first peaks, both uint32 [n].

    Long recordings are analysed in part, but an excerpt of a minute has at least a fifth of its analysed time in
    common with its origin.

    Args:
        read: Gives samples: begin, count -> [count] of any type and scale.
        samples: Of the recording.
        rate: Hz. Recordings at different rates cannot be compared.
    """
    factor = max(1, int(rate / RATE + 0.01))
    found = [
        _landmarks(_decimated(read, begin, count, factor), begin // (factor * STEP))
        for begin, count in _pieces(samples, rate / factor, factor)
    ]
    return np.concatenate([one for one, _ in found]), np.concatenate([two for _, two in found])


def _pieces(samples: int, rate: float, factor: int) -> Iterator[tuple[int, int]]:
    """What is analysed: begin and count in samples; all begin at a frame."""
    whole = min(samples, int(WHOLE_S * rate) * factor)
    yield 0, whole
    period = int(PERIOD_S * rate) // STEP * STEP * factor
    piece = int(PIECE_S * rate) * factor
    for begin in range(whole // (STEP * factor) * STEP * factor, samples - piece, period):
        yield begin, piece


def _decimated(read: Callable[[int, int], np.ndarray], begin: int, count: int, factor: int) -> np.ndarray:
    """A piece of a recording at a rate that is `factor` times lower, float32 [count / factor]."""
    if factor == 1:
        return read(begin, count).astype(np.float32)
    low, found = soxr.ResampleStream(factor, 1, 1, dtype="float32", quality="LQ"), []
    for first in range(0, count, READ):
        here = min(READ, count - first)
        found.append(low.resample_chunk(read(begin + first, here).astype(np.float32), last=first + here == count))
    return np.concatenate(found)[: count // factor] if found else np.empty(0, np.float32)


def _landmarks(audio: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one piece, float32 [n], that begins at frame `first`."""
    frame, where = _peaks(audio)
    if len(frame) < 3:
        return np.empty(0, np.uint32), np.empty(0, np.uint32)
    keys, frames = [], []
    for second in range(1, NEXT):
        for third in range(second + 1, NEXT + 1):
            count = len(frame) - third
            if count <= 0:
                continue
            one, two = frame[second : second + count] - frame[:count], frame[third : third + count] - frame[:count]
            good = (two <= LONGEST) & (one > 0)
            key = where[:count]
            for value, size in ((where[second : second + count], 256), (where[third:], 256), (one, 32), (two, 32)):
                key = key * size + value
            keys.append(key[good])
            frames.append(frame[:count][good])
    mixed = splitmix64(np.concatenate(keys).astype(np.uint64))
    place = np.concatenate(frames) + first
    kept = mixed % np.where(place * STEP < DENSE_S * RATE, DENSE_SHARE, SHARE).astype(np.uint64) == 0
    hashes = (mixed[kept] >> np.uint64(32)).astype(np.uint32)
    return hashes, place[kept].astype(np.uint32)


def _peaks(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Peaks in the order of time: frames and bins (from 0 to FRAME / 2 - 1), int64 [n]."""
    none = np.empty(0, np.int64)
    if len(audio) < FRAME:
        return none, none
    frames = np.lib.stride_tricks.sliding_window_view(audio, FRAME)[::STEP]
    window = np.hanning(FRAME).astype(np.float32)
    at, most = np.empty((len(frames), BANDS), np.int64), np.empty((len(frames), BANDS), np.float32)
    for begin in range(0, len(frames), BATCH):
        some = slice(begin, begin + BATCH)
        spectrum = np.fft.rfft(frames[some] * window)[:, 1:]
        bands = (np.square(spectrum.real) + np.square(spectrum.imag)).reshape(len(spectrum), BANDS, -1)
        at[some] = bands.argmax(2)
        most[some] = np.take_along_axis(bands, at[some, :, None], 2)[:, :, 0]
    # The first of equal ones, so that a constant sound has no peaks.
    around = np.lib.stride_tricks.sliding_window_view(np.pad(most, ((NEAR, NEAR), (0, 0))), NEAR, axis=0).max(2)
    before, after = around[: len(most)], around[NEAR + 1 :]
    frame, band = np.nonzero((most > before) & (most >= after) & (most > FAINT * max(float(most.max()), 1e-30)))
    return frame, band * (FRAME // 2 // BANDS) + at[frame, band]
