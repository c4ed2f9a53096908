"""How sure a value is that is no mean: intervals by leaving out whole recordings.

Resampling with replacement, as for means, would put the same vectors and codes in twice and so bias a covariance, an
entropy or a count of codes; leaving out does not.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from train.evaluation.statistics.bootstrap import COVERAGE

# Groups are dealt out to as many parts as this at most, each left out once.
PARTS = 20


def left_out(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Part of each row, int64 [n] from 0 up: whole groups, dealt out at random to parts of as many groups.

    Args:
        groups: [n] the group of each row, from 0 up.
        seed: The same seed deals in the same way.
    """
    count = int(groups.max()) + 1 if len(groups) else 0
    dealt = np.arange(count) % min(PARTS, max(count, 1))
    return np.random.default_rng(seed).permutation(dealt)[groups]


def jackknife_intervals(
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: np.ndarray,
    low: float | np.ndarray = 0.0,
    high: float | np.ndarray = np.inf,
) -> np.ndarray:
    """95 % intervals of values by the grouped jackknife (Tukey 1958; Shao and Tu 1995, section 2.3).

    With J parts left out in turn the variance is (J - 1) / J times the sum of squares about the mean of the J values;
    the interval is that of a normal distribution around the value of all rows.

    Args:
        statistic: From the rows that are kept, a mask [n], to values [...], finite.
        groups: [n] the group of each row, from 0 up.
        low, high: Bounds of what the values can be, or arrays that can be broadcast to [..., 2].

    Returns:
        [..., 2] lower and upper ends; NaN with fewer than two groups.
    """
    parts = left_out(groups)
    count = int(parts.max()) + 1 if len(parts) else 0
    whole = np.asarray(statistic(np.ones(len(groups), bool)), np.float64)
    if count < 2:
        return np.full((*whole.shape, 2), np.nan)
    values = np.stack([np.asarray(statistic(parts != part), np.float64) for part in range(count)])
    deviation = np.sqrt((count - 1) / count * np.square(values - values.mean(0)).sum(0))
    reach = NormalDist().inv_cdf(0.5 + COVERAGE / 2) * deviation
    return np.stack([whole - reach, whole + reach], axis=-1).clip(low, high)
