"""Paired difference of two models on the same chunks or passages, with its confidence interval."""

import numpy as np

from shards.chunk import parse_name
from train.evaluation.statistics.bootstrap import grouping, mean_intervals


def paired_difference(
    first: dict[str, float], other: dict[str, float], samples: int
) -> tuple[float, tuple[float, float] | None] | None:
    """The mean of `other` - `first` over the chunks that both have, and its 95 % interval from `mean_intervals`.

    The errors of both models are on the same chunks, so the difference is more certain than either mean. None without a
    common chunk.

    Args:
        first, other: A measure by the chunk's name in its shard; NaN where there is none.
        samples: Length of a chunk in samples.
    """
    names = [name for name, value in first.items() if np.isfinite(value) and np.isfinite(other.get(name, np.nan))]
    if not names:
        return None
    differences = np.array([other[name] - first[name] for name in names])
    sources, starts = np.array([parse_name(name) for name in names]).T
    return mean_difference(differences, sources, starts, samples)[:2]


def mean_difference(
    differences: np.ndarray, sources: np.ndarray, starts: np.ndarray, samples: int
) -> tuple[float, tuple[float, float] | None, str]:
    """The mean of differences, its 95 % interval from `mean_intervals`, and the units that were resampled.

    Args:
        differences: [n] finite, at least one.
        sources, starts: [n] recording and first sample of what each was measured on.
        samples: Length of a chunk in samples.

    Returns:
        The mean, the interval or None where there is none, and `recordings`, `blocks` or `chunks`, see `grouping`.
    """
    groups, over = grouping(sources, starts, samples)
    low, high = mean_intervals(differences[:, None], groups)[0].tolist()
    return float(differences.mean()), (low, high) if np.isfinite([low, high]).all() else None, over
