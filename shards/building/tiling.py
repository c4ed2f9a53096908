"""Where chunks begin in a recording."""

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
