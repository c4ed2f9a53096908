"""Distance of two sets of sounds by a kernel: unbiased, so it needs fewer sounds than a Fréchet distance.

The squared maximum mean discrepancy (Gretton et al. 2012) with a Gaussian kernel whose width is the median distance of
the reference, as in the Kernel Audio Distance (Chung et al. 2025), on the embedding of
`train.evaluation.measuring.frechet`. It is 0 on average for two sets of the same kind, and may be negative.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from train.evaluation.generation.measures.pairs import Estimate, interval_of, once, pair_sums, squared_distances
from train.evaluation.generation.measures.windows import Windows
from train.evaluation.statistics.bootstrap import resamples

# The median is of the distances of at most so many windows, evenly spaced.
MEDIAN_OF = 2000
PARTITIONS = 500
# The floor is the distance that this share of random partitions stays below.
FLOOR_SHARE = 0.95


@dataclass(frozen=True)
class Floor:
    """Distances between random parts of the held-out recordings.

    Attributes:
        high: What 95 % of them stay below.
        groups: Groups in the smaller part.
    """

    high: float
    groups: int


def kernel_width(vectors: np.ndarray) -> float:
    """The median Euclidean distance of vectors [n, D]; 1 if they are equal, or fewer than two."""
    chosen = vectors[:: -(-len(vectors) // MEDIAN_OF) or 1]
    if len(chosen) < 2:
        return 1.0
    found = squared_distances(chosen, chosen)[np.triu_indices(len(chosen), 1)]
    return float(np.sqrt(np.median(found))) or 1.0


def gaussian(width: float) -> Callable[[np.ndarray], np.ndarray]:
    """The kernel as a function of the squared distance."""
    return lambda squares: np.exp(squares / (-2 * width**2))


def kernel_distance(reference: Windows, other: Windows) -> Estimate | None:
    """The squared maximum mean discrepancy of two sets, from -1 to 2; None with fewer than two groups in either.

    Pairs of one group count neither within a set nor between sets. The interval resamples the groups of both sets.
    """
    if min(len(reference.names), len(other.names)) < 2:
        return None
    kernel = gaussian(kernel_width(reference.vectors))
    within, beyond = pair_sums(reference, reference, kernel), pair_sums(other, other, kernel)
    between = pair_sums(reference, other, kernel)

    def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return within.mean(first, first) + beyond.mean(second, second) - 2 * between.mean(first, second)

    whole = float(distance(once(reference), once(other)))
    if not (reference.enough and other.enough):
        return Estimate(whole)
    draws = zip(resamples(len(reference.names), 0), resamples(len(other.names), 1), strict=True)
    return Estimate(whole, interval_of([distance(first, second) for first, second in draws]))


def kernel_floor(reference: Windows, groups: int) -> Floor | None:
    """How far random parts of one set are apart: as many groups as `groups`, at most half, and the rest.

    None with fewer than four groups.
    """
    count = len(reference.names)
    part = min(groups, count // 2)
    if part < 2:
        return None
    sums = pair_sums(reference, reference, gaussian(kernel_width(reference.vectors)))
    rng = np.random.default_rng(0)
    here = np.zeros((PARTITIONS, count))
    for row in here:
        row[rng.permutation(count)[:part]] = 1
    there = 1 - here
    found = sums.mean(here, here) + sums.mean(there, there) - 2 * sums.mean(here, there)
    return Floor(float(np.quantile(found, FLOOR_SHARE)), part)
