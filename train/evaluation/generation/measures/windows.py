"""Windows of audio as vectors: what all measures of generated recordings are computed from."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from train.evaluation.measuring.frechet import embed
from train.evaluation.measuring.metrics import SILENT_PEAK
from train.evaluation.statistics.bootstrap import MIN_GROUPS

# Kinds of windows in the tables that processes share. Tables have as many columns for a short piece as for a long one.
MISSING, AUDIBLE, SILENT = 0, 1, 2


@dataclass(frozen=True)
class Windows:
    """The audible windows of pieces of audio.

    Attributes:
        vectors: [n, 64] float64, the embedding of each window.
        pieces: [n] int64, the piece of each window.
        places: [n] int64, the place of the window in its piece, from 0.
        groups: [n] int64. Windows of one group are not independent. Two sets that share a group have windows of the
            same recording.
        silent: Number of windows that are silent, which are not among the others.
    """

    vectors: np.ndarray
    pieces: np.ndarray
    places: np.ndarray
    groups: np.ndarray
    silent: int = 0

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def names(self) -> np.ndarray:
        """The groups that occur, each once, in ascending order."""
        return np.unique(self.groups)

    @property
    def enough(self) -> bool:
        """Whether there are enough groups for an interval."""
        return len(self.names) >= MIN_GROUPS


def windows_of(vectors: np.ndarray, kinds: np.ndarray, groups: np.ndarray) -> Windows:
    """The windows of a table of pieces.

    Args:
        vectors: [pieces, windows, D].
        kinds: [pieces, windows]: MISSING, AUDIBLE or SILENT.
        groups: [pieces] int64, the group of each piece.
    """
    pieces, places = np.nonzero(kinds == AUDIBLE)
    chosen = vectors[pieces, places].astype(np.float64)
    return Windows(chosen, pieces, places, groups[pieces], int((kinds == SILENT).sum()))


def cut(audio: Tensor, samples: int) -> Tensor:
    """Audio, [T] or [A, T] -> [T // samples, A, samples]: neighbouring windows; the rest is left out."""
    count = audio.shape[-1] // samples
    rows = audio if audio.ndim == 2 else audio.unsqueeze(0)
    return rows[:, : count * samples].unflatten(1, (count, samples)).transpose(0, 1)


@torch.no_grad()
def table_row(audio: Tensor, samples: int, rate: int, count: int) -> dict[str, Tensor]:
    """The row of one piece in a table that `windows_of` takes.

    Args:
        audio: [T] or [2, T] float32.
        samples: Length of a window in samples.
        rate: Hz.
        count: Windows of the longest piece of the table.

    Returns:
        `embedding` [1, count, 64] and `kind` [1, count].
    """
    parts = cut(audio, samples)[:count]
    vectors = embed(parts, rate)
    kinds = torch.where(parts.abs().amax((1, 2)) < SILENT_PEAK, SILENT, AUDIBLE)
    missing = count - len(parts)
    return {
        "embedding": torch.nn.functional.pad(vectors, (0, 0, 0, missing)).unsqueeze(0),
        "kind": torch.nn.functional.pad(kinds, (0, missing), value=MISSING).unsqueeze(0),
    }
