"""Confidence intervals of means by resampling whole recordings, because chunks of a recording are similar."""

from collections.abc import Iterator

import numpy as np

RESAMPLES = 2000
COVERAGE = 0.95
TAILS = ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2)
# With fewer groups than this, resamples do not represent other groups of the kind.
MIN_GROUPS = 5
# Length of a block in chunks, used with too few recordings; overlapping chunks mostly stay in one block.
BLOCK = 10
# Resamples drawn at a time, to limit memory.
AT_ONCE = 100
# Cells of a table of draws and values at a time: 32 MiB.
CELLS = 1 << 22


def grouping(sources: np.ndarray, starts: np.ndarray, samples: int) -> tuple[np.ndarray, str]:
    """The units to resample: recordings, or with fewer than five, blocks of ten chunk lengths, or single chunks.

    Args:
        sources: [n] the recording of each chunk.
        starts: [n] its first sample.
        samples: Length of a chunk in samples.

    Returns:
        The group of each chunk, int64 [n] from 0 up, and "recordings", "blocks" or "chunks".
    """
    blocks = np.stack([sources, starts // (BLOCK * samples)])
    for keys, name in ((sources[None], "recordings"), (blocks, "blocks")):
        found, groups = np.unique(keys, axis=1, return_inverse=True)
        if found.shape[1] >= MIN_GROUPS:
            return groups.reshape(-1), name
    return np.arange(len(sources)), "chunks"


def mean_intervals(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """95 % percentile bootstrap intervals of means; whole groups are resampled.

    The percentile method of Efron 1979 ("Bootstrap methods: another look at the jackknife") with clusters: each of
    the RESAMPLES draws takes as many groups as there are, with replacement. Its mean is over all their values, so long
    recordings have more weight, as in the mean itself. The same input gives the same interval.

    Args:
        values: [n, m]; NaN where there is no value.
        groups: [n] the group of each row, from 0 up.

    Returns:
        [m, 2] lower and upper ends; NaN for measures without values in at least two groups.
    """
    values = np.asarray(values, np.float64)
    count = int(groups.max()) + 1 if len(groups) else 0
    there = ~np.isnan(values)
    sums, numbers = np.zeros((count, values.shape[1])), np.zeros((count, values.shape[1]))
    np.add.at(sums, groups, np.where(there, values, 0.0))
    np.add.at(numbers, groups, there)
    result = np.full((values.shape[1], 2), np.nan)
    enough = (numbers > 0).sum(0) >= 2
    if not enough.any():
        return result
    means = []
    for taken in resamples(count, seed):
        with np.errstate(invalid="ignore"):  # a draw may contain no value of a measure
            means.append((taken @ sums[:, enough]) / (taken @ numbers[:, enough]))
    result[enough] = np.nanquantile(np.concatenate(means), TAILS, axis=0).T
    return result


def median_interval(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same for the median of values [n]: [2], NaN without values in at least two groups.

    For an even number of values, the median of a draw is the lower of the two middle values.
    """
    there = ~np.isnan(values)
    values, groups = values[there], groups[there]
    if len(np.unique(groups)) < 2:
        return np.full(2, np.nan)
    order = np.argsort(values, kind="stable")
    values, groups = values[order], groups[order]
    medians = []
    for draws in resamples(int(groups.max()) + 1, seed):
        for taken in np.array_split(draws, -(-draws.shape[0] * len(values) // CELLS)):
            reached = taken[:, groups].cumsum(1)  # [draws, n]
            medians.append(values[(2 * reached < reached[:, -1:]).sum(1).clip(max=len(values) - 1)])
    return np.nanquantile(np.concatenate(medians), TAILS)


def resamples(groups: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each group occurs in RESAMPLES draws: float64 [AT_ONCE, groups] at a time."""
    rng = np.random.default_rng(seed)
    for _ in range(0, RESAMPLES, AT_ONCE):
        yield rng.multinomial(groups, np.full(groups, 1 / groups), size=AT_ONCE).astype(np.float64)
