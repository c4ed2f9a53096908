"""What generated recordings are measured against: passages of held-out recordings, and training chunks."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shards import Split
from train.evaluation.generation.measures.windows import Windows, table_row, windows_of
from train.evaluation.generation.sounds import Shape
from train.evaluation.measuring.frechet import embed
from train.evaluation.measuring.heldout import read_audio, spread
from train.evaluation.measuring.metrics import SILENT_PEAK
from train.evaluation.measuring.recordings import join_chunks
from train.evaluation.measuring.sharing import whole_table
from train.evaluation.statistics.bootstrap import MIN_GROUPS
from train.parallel.engine import Engine

# Most passages of held-out recordings and most training chunks, each evenly spread.
PASSAGES = 256
TRAINING = 20_000


@dataclass(frozen=True)
class Passage:
    """A passage of a recording: its number in the manifest, and the first sample, where a chunk starts."""

    source: int
    first: int


@dataclass(frozen=True)
class Training:
    """Training chunks that are not silent.

    Attributes:
        vectors: [m, 64] float64, their embeddings.
        chunks: [m] int64, their numbers in the split.
    """

    vectors: np.ndarray
    chunks: np.ndarray


def passages_of(sources: np.ndarray, starts: np.ndarray, shape: Shape) -> list[Passage]:
    """Divides recordings into passages as long as pieces, one after the other; shorter ones only of short recordings.

    At most PASSAGES of them, evenly spread.

    Args:
        sources, starts: [n] recording and first sample of each chunk.
        shape: The length of pieces and windows.
    """
    order = np.lexsort((starts, sources))
    sources, starts = sources[order], starts[order]
    names, begins = np.unique(sources, return_index=True)
    ends = np.append(begins[1:], len(sources))
    windows = (starts[ends - 1] + shape.samples - starts[begins]) // shape.samples
    counts = np.maximum(1, windows // shape.count)
    last = counts.cumsum()
    found = []
    for passage in spread(int(last[-1]), PASSAGES):
        row = int(np.searchsorted(last, passage, side="right"))
        number = int(passage - last[row] + counts[row])
        own = starts[begins[row] : ends[row]]
        place = np.searchsorted(own, own[0] + number * shape.count * shape.samples)
        found.append(Passage(int(names[row]), int(own[place])))
    return found


def groups_of(passages: list[Passage]) -> tuple[np.ndarray, str]:
    """The group of each passage, [n] int64 from 0 up, and its name: the recording, or with fewer than five itself."""
    sources = np.array([passage.source for passage in passages])
    names, groups = np.unique(sources, return_inverse=True)
    if len(names) >= MIN_GROUPS:
        return groups, "recordings"
    return np.arange(len(passages)), "passages"


def passage_audio(split: Split, passage: Passage, shape: Shape) -> Tensor:
    """The audio of a passage: [T] or [2, T] float32, shorter than a piece at the end of a recording."""
    audio = join_chunks(split, passage.source, passage.first, shape.length / shape.rate)
    return torch.from_numpy(audio[..., : shape.length])


def held_out_windows(
    engine: Engine, split: Split, passages: list[Passage], groups: np.ndarray, shape: Shape
) -> Windows:
    """The windows of all passages."""

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        audio = passage_audio(split, passages[int(rows[0])], shape)
        return table_row(audio, shape.samples, shape.rate, shape.count)

    table = whole_table(engine, "reading held-out recordings", len(passages), columns, at_a_time=1)
    return windows_of(table["embedding"], table["kind"], groups)


def training_chunks(engine: Engine, split: Split, device: torch.device) -> Training:
    """Up to TRAINING evenly spread chunks."""
    chosen = spread(len(split), TRAINING)

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        audio = read_audio(split, chosen[rows], device)
        return {"embedding": embed(audio, split.rate), "silent": audio.abs().amax((1, 2)) < SILENT_PEAK}

    table = whole_table(engine, "reading training chunks", len(chosen), columns)
    loud = table["silent"] == 0
    return Training(table["embedding"][loud].astype(np.float64), chosen[loud])
