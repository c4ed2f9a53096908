"""Confidence intervals of values other than means, by leaving out whole recordings.

Resampling with replacement, as for means, would count the same vectors and codes twice. That would bias a covariance,
an entropy or a count of codes. Leaving recordings out does not.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from train.evaluation.statistics.bootstrap import COVERAGE

# Groups are distributed over at most this many parts, each left out once.
PARTS = 20


def left_out(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Part of each row, int64 [n] from 0 up: whole groups, distributed at random over parts of about equal size.

    Args:
        groups: [n] the group of each row, from 0 up.
        seed: Seed of the random distribution.
    """
    count = int(groups.max()) + 1 if len(groups) else 0
    parts = np.arange(count) % min(PARTS, max(count, 1))
    return np.random.default_rng(seed).permutation(parts)[groups]


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
        statistic: Function from a mask [n] of the kept rows to finite values [...].
        groups: [n] the group of each row, from 0 up.
        low, high: Bounds of the possible values, or arrays that broadcast to [..., 2].

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
