"""Audio, pictures, pages and histograms beside the curves of a run, in no tracker's own classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Audio:
    """Samples [T] in [-1, 1] and their rate in Hz."""

    samples: np.ndarray
    rate: int


@dataclass(frozen=True)
class Picture:
    """The bytes of a PNG file."""

    png: bytes


@dataclass(frozen=True)
class Page:
    """A whole HTML page that fetches nothing."""

    html: str


@dataclass(frozen=True)
class Histogram:
    """Counts [n] between edges [n + 1]."""

    counts: np.ndarray
    edges: np.ndarray


Item = Audio | Picture | Page | Histogram


@dataclass(frozen=True)
class Media:
    """What a run shows at one step.

    Attributes:
        step: The optimizer step that it belongs to.
        items: Returns the items by their panel's name. It may take a second, so the sender's thread calls it.
    """

    step: int
    items: Callable[[], Mapping[str, Item]]
