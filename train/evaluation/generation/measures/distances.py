"""Distances within a recording (coherence) and between recordings (diversity), in natural-log units.

The distance of two windows is the root mean square of the differences of their 64 numbers.
"""

from dataclasses import dataclass, replace

import numpy as np

from train.evaluation.generation.measures.pairs import Estimate, mean_over_pairs
from train.evaluation.generation.measures.windows import Windows
from train.evaluation.statistics.bootstrap import MIN_GROUPS, mean_intervals

# Lags at which coherence is measured, in seconds.
LAGS_S = (1.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True)
class Lag:
    """Coherence at one lag: the mean distance of windows that are so many seconds apart.

    Attributes:
        seconds: The lag, in whole windows.
        distance: The mean over pairs.
        pairs: Number of pairs.
    """

    seconds: float
    distance: Estimate
    pairs: int


def lags(count: int, seconds: float) -> list[int]:
    """LAGS_S in windows of `seconds`, those that pieces of `count` windows have; each once."""
    found = {max(1, round(lag / seconds)) for lag in LAGS_S}
    return sorted(lag for lag in found if lag < count)


def coherence(windows: Windows, lag: int, seconds: float) -> Lag | None:
    """The mean distance of windows of one piece that are `lag` windows of `seconds` apart; None without a pair.

    The interval resamples groups.
    """
    width = int(windows.places.max(initial=0)) + lag + 1
    keys = windows.pieces * width + windows.places
    order = np.argsort(keys)
    _, first, second = np.intersect1d(keys[order] + lag, keys[order], assume_unique=True, return_indices=True)
    first, second = order[first], order[second]
    if not len(first):
        return None
    values = rms(np.square(windows.vectors[first] - windows.vectors[second]).sum(1), windows)
    names, groups = np.unique(windows.groups[first], return_inverse=True)
    interval = None
    if len(names) >= MIN_GROUPS:
        low, high = mean_intervals(values[:, None], groups)[0].tolist()
        interval = (low, high)
    return Lag(lag * seconds, Estimate(float(values.mean()), interval), len(values))


def coherence_in_words(generated: Lag, held_out: Lag) -> str:
    """What two intervals at one lag say: `coherent` if they overlap, `drifting`, `monotonous`, or `unknown`."""
    own, usual = generated.distance.interval, held_out.distance.interval
    if own is None or usual is None:
        return "unknown"
    if own[0] > usual[1]:
        return "drifting"
    return "monotonous" if own[1] < usual[0] else "coherent"


def diversity(windows: Windows) -> Estimate | None:
    """The mean distance of pieces of different groups, each represented by the mean of its windows.

    None with fewer than two groups. The interval resamples groups.
    """
    _, first, inverse = np.unique(windows.pieces, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), windows.vectors.shape[1]))
    np.add.at(sums, inverse, windows.vectors)
    pieces = replace(
        windows,
        vectors=sums / np.bincount(inverse, minlength=len(first))[:, None],
        pieces=windows.pieces[first],
        places=np.zeros_like(first),
        groups=windows.groups[first],
    )
    return mean_over_pairs(pieces, lambda squares: rms(squares, windows))


def rms(squares: np.ndarray, windows: Windows) -> np.ndarray:
    """Squared distances of vectors as root mean squares of the differences of their numbers."""
    return np.sqrt(squares / windows.vectors.shape[1])
