"""Paired difference of two models on the same chunks, with its confidence interval."""

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
    groups, _ = grouping(sources, starts, samples)
    low, high = mean_intervals(differences[:, None], groups)[0].tolist()
    return float(differences.mean()), (low, high) if np.isfinite([low, high]).all() else None
