"""Means over pairs of windows or pieces of different groups, and their intervals.

Windows of one recording are alike. A mean over pairs that counts pairs within a recording would depend on how many
windows each recording has, so only pairs of different groups count. This keeps the estimate unbiased.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from train.evaluation.generation.measures.windows import Windows
from train.evaluation.statistics.bootstrap import TAILS, resamples

# Rows of a table of pairs at a time, to limit memory.
ROWS = 512


@dataclass(frozen=True)
class Estimate:
    """A value, and its 95 % interval or None where there are too few groups."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PairSums:
    """Sums over the pairs of two sets, by group.

    Attributes:
        sums: [G, H], for each group of the first and each of the second set the sum of a value over their pairs; 0
            where both are the same group.
        counts: [G, H], the number of these pairs.
    """

    sums: np.ndarray
    counts: np.ndarray

    def mean(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The mean over pairs, if groups count as often as `first` [..., G] and `second` [..., H] say; NaN without."""
        with np.errstate(invalid="ignore"):
            return ((first @ self.sums) * second).sum(-1) / ((first @ self.counts) * second).sum(-1)


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of vectors [n, D] and [m, D]: [n, m]."""
    norms = np.square(first).sum(1)[:, None] + np.square(second).sum(1)
    return (norms - 2 * first @ second.T).clip(0)


def pair_sums(first: Windows, second: Windows, value: Callable[[np.ndarray], np.ndarray]) -> PairSums:
    """Sums of a function of the squared distance, by the groups of two sets in the order of their `names`."""
    members = [(each.groups[:, None] == each.names).astype(np.float64) for each in (first, second)]
    sums = np.zeros((members[0].shape[1], members[1].shape[1]))
    for begin in range(0, len(first), ROWS):
        rows = slice(begin, begin + ROWS)
        sums += members[0][rows].T @ value(squared_distances(first.vectors[rows], second.vectors)) @ members[1]
    counts = np.outer(members[0].sum(0), members[1].sum(0))
    other = first.names[:, None] != second.names
    return PairSums(sums * other, counts * other)


def once(windows: Windows) -> np.ndarray:
    """How often each group counts in the set itself: 1."""
    return np.ones(len(windows.names))


def interval_of(values: list[np.ndarray]) -> tuple[float, float] | None:
    """The 95 % interval of the values [n] of resamples; None if none of them is finite."""
    drawn = np.concatenate(values)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None
    low, high = np.quantile(drawn, TAILS).tolist()
    return low, high


def mean_over_pairs(windows: Windows, value: Callable[[np.ndarray], np.ndarray]) -> Estimate | None:
    """The mean of a function of the squared distance over pairs of different groups; None with fewer than two."""
    if len(windows.names) < 2:
        return None
    sums = pair_sums(windows, windows, value)
    whole = float(sums.mean(once(windows), once(windows)))
    if not windows.enough:
        return Estimate(whole)
    return Estimate(whole, interval_of([sums.mean(drawn, drawn) for drawn in resamples(len(windows.names), 0)]))
