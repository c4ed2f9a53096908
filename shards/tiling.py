"""Where chunks begin in a recording, and which of the silent ones are left out."""

import math

import numpy as np


def chunk_starts(length: int, chunk: int, hop: int) -> np.ndarray:
    """First samples of the chunks that cover a recording, int64, ascending; all counts in samples.

    Chunks lie ``hop`` apart; the last is shifted back to end with the recording, so that no sample is
    lost. A recording shorter than a chunk gets one chunk at 0 (to be zero-padded), an empty one none.
    """
    if not 0 < hop <= chunk:
        raise ValueError(f"hop must be between 1 and the chunk length {chunk}, not {hop}")
    if length <= 0:
        return np.empty(0, np.int64)
    last = max(length - chunk, 0)
    return np.append(np.arange(0, last, hop, dtype=np.int64), last)


def left_out(silent: np.ndarray, most: float) -> np.ndarray:
    """Which chunks to leave out, int64, ascending, so that at most a share ``most`` of the rest is silent.

    ``silent`` is bool [chunks] in the order of the recording. The silent chunks that stay are spread evenly
    over it; when all are silent, none stays unless ``most`` is 1.
    """
    quiet = np.flatnonzero(silent)
    if most >= 1:
        return quiet[:0]
    loud = len(silent) - len(quiet)
    # The smallest excess over a whole number is a rounding error: 0.1 of 10 chunks is one chunk.
    stay = min(len(quiet), math.floor(most * loud / (1 - most) + 1e-9))
    spread = (2 * np.arange(stay) + 1) * len(quiet) // max(2 * stay, 1)
    return np.delete(quiet, spread)
