"""The passages of held-out recordings on which codes are compared: few, short, and the same for every model."""

from dataclasses import dataclass

import numpy as np

from shards import Split
from train.evaluation.measuring.heldout import spread

# Length of a passage, and their largest number: at most 96 s of audio, however large the split is.
PASSAGE_S = 6.0
MOST_PASSAGES = 16
# A shorter rest of a recording is no passage.
SHORTEST_S = 0.5
# ViSQOL is slow, so it is measured on some of the passages.
VISQOL_PASSAGES = 4


@dataclass(frozen=True)
class Passage:
    """A part of a recording: its number in the manifest, and first sample and length in samples."""

    source: int
    first: int
    length: int


def all_passages(split: Split, silent: np.ndarray) -> list[Passage]:
    """Cuts every recording into passages, in the order of the manifest; those that begin with a silent chunk are out.

    A passage begins where a chunk begins. The choice depends on nothing but the data set.

    Args:
        split: The split with the recordings.
        silent: [n] bool, which of its chunks are silent.
    """
    sources, starts = split.keys()
    order = np.lexsort((starts, sources))
    sources, starts, silent = sources[order], starts[order], silent[order]
    size, found = round(PASSAGE_S * split.rate), []
    for source in np.unique(sources):
        own = slice(*np.searchsorted(sources, [source, source + 1]))
        begins, quiet = starts[own], silent[own]
        end, place = int(begins[-1]) + split.samples, 0
        while place < len(begins):
            first = int(begins[place])
            if quiet[place]:
                place += 1
                continue
            if (length := min(size, end - first)) >= SHORTEST_S * split.rate:
                found.append(Passage(int(source), first, length))
            place = max(place + 1, int(np.searchsorted(begins, first + size)))
    return found


def choose_passages(split: Split, silent: np.ndarray) -> list[Passage]:
    """Up to MOST_PASSAGES of `all_passages`, spread evenly, so that long recordings have more of them."""
    candidates = all_passages(split, silent)
    return [candidates[place] for place in spread(len(candidates), MOST_PASSAGES)]


def for_visqol(count: int) -> set[int]:
    """The places of those out of `count` passages on which ViSQOL is measured."""
    return {*spread(count, VISQOL_PASSAGES).tolist()}
