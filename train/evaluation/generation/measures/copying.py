"""Whether generated windows are copies: nearer to a window of the training data than held-out ones are.

The distance to the nearest training window alone says little, since a recording may be like another. So the distances
of held-out windows, which nobody can have copied, set the scale (as in Meehan et al. 2020, "A non-parametric test to
detect data-copying in generative models").
"""

from dataclasses import dataclass

import numpy as np

from train.evaluation.generation.measures.pairs import Estimate, interval_of, squared_distances
from train.evaluation.generation.measures.windows import Windows
from train.evaluation.statistics.bootstrap import MIN_GROUPS, resamples

# A window counts as near if it is nearer to the training data than all but this share of the held-out windows.
NEAR_SHARE = 0.01
# Rows of a table of distances at a time: 80 MB with 20,000 training windows.
ROWS = 512


@dataclass(frozen=True)
class Nearest:
    """The nearest training window of each window.

    Attributes:
        distances: [n] root mean square of the differences, each number in units of its deviation in training.
        windows: [n] int64, the number of the nearest training window.
        groups: [n] int64 from 0 up, the group of each window.
    """

    distances: np.ndarray
    windows: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Copies:
    """How near a set is to the training data.

    Attributes:
        share: The share of windows that count as near; NEAR_SHARE of the held-out windows do.
        ratio: Median distance to the nearest training window over that of held-out windows.
    """

    share: Estimate
    ratio: float


def nearest(windows: Windows, training: np.ndarray) -> Nearest:
    """The nearest of the training windows [m, D], m at least 1, for each window; numbers are standardised by them."""
    deviation = training.std(0)
    deviation[deviation == 0] = 1
    own, known = windows.vectors / deviation, training / deviation
    distances, numbers = [np.zeros(0)], [np.zeros(0, np.int64)]
    for begin in range(0, len(own), ROWS):
        squares = squared_distances(own[begin : begin + ROWS], known)
        numbers.append(squares.argmin(1))
        distances.append(np.sqrt(squares.min(1) / own.shape[1]))
    _, groups = np.unique(windows.groups, return_inverse=True)
    return Nearest(np.concatenate(distances), np.concatenate(numbers), groups)


def copies(found: Nearest, held_out: Nearest) -> Copies | None:
    """Compares a set with the held-out windows; None if one of the two is empty.

    The interval of the share resamples the groups of both, as few recordings leave the limit uncertain.
    """
    if not len(found.distances) or not len(held_out.distances):
        return None
    usual = float(np.median(held_out.distances))
    ratio = float(np.median(found.distances)) / usual if usual else float("nan")
    limit = np.quantile(held_out.distances, NEAR_SHARE, method="inverted_cdf")
    share = float((found.distances < limit).mean())
    own, other = (int(each.groups.max()) + 1 for each in (found, held_out))
    if min(own, other) < MIN_GROUPS:
        return Copies(Estimate(share), ratio)
    order = np.argsort(held_out.distances, kind="stable")
    ranked, groups = held_out.distances[order], held_out.groups[order]
    shares = []
    for drawn, others in zip(resamples(own, 0), resamples(other, 1), strict=True):
        reached = others[:, groups].cumsum(1)  # [draws, n]
        limits = ranked[(reached < NEAR_SHARE * reached[:, -1:]).sum(1)]
        weights = drawn[:, found.groups]
        shares.append((weights * (found.distances < limits[:, None])).sum(1) / weights.sum(1))
    return Copies(Estimate(share, interval_of(shares)), ratio)
