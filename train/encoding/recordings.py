"""Recordings of a data set, joined from their chunks."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shards import Split, by_channel

AT_ONCE = 256  # chunks read together


@dataclass(frozen=True)
class Recording:
    """A recording of a split.

    Attributes:
        row: Its row in the manifest.
        split: Where its chunks are.
        chunks: Their numbers in the split, in the order of the recording, int64 [n].
        starts: Their first samples, counted from that of the first chunk, int64 [n].
    """

    row: int
    split: Split
    chunks: np.ndarray
    starts: np.ndarray

    @property
    def samples(self) -> int:
        """Its length; of a recording shorter than a chunk that of a chunk."""
        return int(self.starts[-1]) + self.split.samples

    @property
    def path(self) -> str:
        """Its name in the manifest."""
        return self.split.manifest.sources[self.row].path

    def audio(self, samples: int) -> Tensor:
        """[samples], of stereo [2, samples], float32 in [-1, 1), at least its length; what is not there is silent.

        Raises:
            DataError: when a chunk is damaged.
        """
        channels, length = self.split.channels, self.split.samples
        whole = torch.zeros(channels, samples, dtype=torch.int16)
        for first in range(0, len(self.chunks), AT_ONCE):
            pieces = by_channel(self.split.read(self.chunks[first : first + AT_ONCE]), channels)
            for start, piece in zip(self.starts[first : first + AT_ONCE].tolist(), pieces, strict=True):
                whole[:, start : start + length] = piece
        return whole.squeeze(0).float().div_(32768.0)


def recordings_of(split: Split) -> list[Recording]:
    """All recordings of a split, by their rows. Raises DataError when the name of a chunk is damaged."""
    sources, starts = split.keys()
    order = np.lexsort((starts, sources))
    borders = np.flatnonzero(np.diff(sources[order])) + 1
    return [
        Recording(int(sources[chunks[0]]), split, chunks, starts[chunks] - starts[chunks[0]])
        for chunks in np.split(order, borders)
    ]
