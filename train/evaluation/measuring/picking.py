"""Selects example chunks for a page: easy, medium and hard ones that do not overlap."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Picker:
    """Takes chunks in order of preference, none twice, and overlapping ones only if no others are left.

    Attributes:
        sources, starts: [n] recording and first sample of each chunk.
        samples: Length of a chunk in samples.
        taken: Chunks taken so far.
    """

    sources: np.ndarray
    starts: np.ndarray
    samples: int
    taken: list[int] = field(default_factory=list)

    def take(self, preferred: Iterable[int], count: int) -> list[int]:
        """Takes at most `count` chunks, and returns them in order of preference."""
        rest = [int(chunk) for chunk in preferred if chunk not in self.taken]
        chosen: list[int] = []
        for apart in (True, False):
            for chunk in rest:
                if len(chosen) == count:
                    break
                if chunk not in self.taken and not (apart and self._overlaps(chunk)):
                    chosen.append(chunk)
                    self.taken.append(chunk)
        return sorted(chosen, key=rest.index)

    def _overlaps(self, chunk: int) -> bool:
        near = np.abs(self.starts[self.taken] - self.starts[chunk]) < self.samples
        return bool((near & (self.sources[self.taken] == self.sources[chunk])).any())


def extremes(ranked: Sequence[int], count: int, picker: Picker) -> tuple[list[int], list[int], list[int]]:
    """From chunks ranked from best to worst: the best, those around the median, and the worst, the very worst first.

    Each kind has at most a third of the chunks, but at least one if there are enough.
    """
    count = min(count, max(1, len(ranked) // 3))
    best = picker.take(ranked, count)
    worst = picker.take(ranked[::-1], count)
    middle = (len(ranked) - 1) / 2
    place = {chunk: i for i, chunk in enumerate(ranked)}
    median = picker.take(sorted(ranked, key=lambda chunk: abs(place[chunk] - middle)), count)
    return best, sorted(median, key=place.__getitem__), worst
