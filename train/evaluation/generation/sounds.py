"""Makes and measures pieces of audio, each in one process: generated ones, and what they are compared with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, sample_chunks
from train.errors import TrainError
from train.evaluation.generation.measures.windows import Windows, table_row, windows_of
from train.evaluation.measuring.chunks import LARGEST
from train.evaluation.measuring.sharing import whole_table
from train.parallel.engine import Engine


@dataclass(frozen=True)
class Shape:
    """The length of pieces and of their windows.

    Attributes:
        samples: Samples of a window: those of a chunk of the data set.
        rate: Hz.
        length: Samples of a piece.
    """

    samples: int
    rate: int
    length: int

    @property
    def count(self) -> int:
        """Whole windows in a piece."""
        return self.length // self.samples

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.samples / self.rate


@dataclass(frozen=True)
class Pieces:
    """Pieces of audio with their windows.

    Attributes:
        audio: [n, T], of stereo [n, 2, T], float32, with silence after shorter ones.
        windows: Their windows; piece i is row i.
    """

    audio: np.ndarray
    windows: Windows


def make_pieces(
    engine: Engine,
    title: str,
    groups: np.ndarray,
    shape: Shape,
    make: Callable[[list[int]], list[Tensor]],
    at_a_time: int = 1,
) -> Pieces:
    """Makes pieces and measures their windows; the same result on every process.

    Args:
        engine: The processes.
        title: What is made, in the plural, for the progress bar and for errors.
        groups: [n] int64, see `Windows`; n is the number of pieces.
        shape: The length of pieces and windows.
        make: From the numbers of pieces to the audio of each, [T] or [2, T], T at most the length of a piece.
        at_a_time: Pieces in a call of `make`.

    Raises:
        TrainError: if a piece is not finite.
    """

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        found = [_row(audio, shape) for audio in make(rows.tolist())]
        for number, row in zip(rows, found, strict=True):
            if not row["audio"].abs().amax() < LARGEST:  # False for NaN
                raise TrainError(
                    f"number {number + 1} of the {title} is not finite or exceeds {LARGEST:g}, so it cannot be "
                    "measured; train longer, or again with a lower --optim.lr"
                )
        return {name: torch.cat([row[name] for row in found]) for name in found[0]}

    table = whole_table(engine, f"making {title}", len(groups), columns, at_a_time)
    return Pieces(table["audio"], windows_of(table["embedding"], table["kind"], groups))


def _row(audio: Tensor, shape: Shape) -> dict[str, Tensor]:
    whole = torch.nn.functional.pad(audio.float(), (0, shape.length - audio.shape[-1]))
    return {"audio": whole.unsqueeze(0), **table_row(audio.float(), shape.samples, shape.rate, shape.count)}


def drawn_without_prior(engine: Engine, autoencoder: Autoencoder, shape: Shape, groups: np.ndarray) -> Pieces:
    """Pieces of chunks that the autoencoder draws from its own prior, one after the other."""

    def make(pieces: list[int]) -> list[Tensor]:
        return [torch.cat(sample_chunks(autoencoder, shape.count, seed=piece), dim=-1) for piece in pieces]

    return make_pieces(engine, "draws from the autoencoder's prior", groups, shape, make)
