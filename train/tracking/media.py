"""Audio, pictures, pages and histograms of a run, independent of any tracker's classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Audio:
    """Samples, [T] or left and right [2, T], in [-1, 1], and the sample rate in Hz."""

    samples: np.ndarray
    rate: int


@dataclass(frozen=True)
class Picture:
    """The bytes of a PNG file."""

    png: bytes


@dataclass(frozen=True)
class Page:
    """A self-contained HTML page that needs no network."""

    html: str


@dataclass(frozen=True)
class Histogram:
    """Counts [n] of the bins between edges [n + 1]."""

    counts: np.ndarray
    edges: np.ndarray


Item = Audio | Picture | Page | Histogram


@dataclass(frozen=True)
class Media:
    """The media of a run at one step.

    Attributes:
        step: The optimizer step of the media.
        items: Returns the items by panel name. It may take a second, so the sender thread calls it.
    """

    step: int
    items: Callable[[], Mapping[str, Item]]
