"""Fréchet distance between two sets of sounds, without pairing them.

As in Heusel et al. 2017 (FID) and Kilgour et al. 2019 (Fréchet audio distance), but with an embedding that needs no
trained network. The values compare runs on the same shards. They cannot be compared with published FID or FAD values.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiovae.layers.spectra import log_mel

BANDS = 32
HOP = 256
EMBEDDING = "log-mel-32: mean and standard deviation over time of each of 32 log-mel bands"
# Number of random splits into halves over which the noise floor is averaged.
HALVINGS = 10


def embed(audio: Tensor, rate: int) -> Tensor:
    """Mean and standard deviation over time of the natural log-mel magnitudes of each band.

    32 bands on Slaney's scale from 0 Hz to half the rate, Hann windows of 1024 samples (2048 above 32 kHz), hop 256,
    scaling and floor of `audiovae.layers.spectra.log_mel` (a full-scale sine peaks at ln 0.5, the floor is ln 1e-5).
    The means describe timbre and level, the standard deviations the variation over time. The standard deviation divides
    by the number of frames.

    Args:
        audio: [B, A, T]; of stereo, the mean of the channels counts.
        rate: Hz.

    Returns:
        [B, 64] float32: 32 means, then 32 standard deviations, in natural-log units.
    """
    bands = log_mel(audio.mean(1, keepdim=True), BANDS, 1024 if rate <= 32000 else 2048, HOP, rate)
    return torch.cat([bands.mean(2), bands.var(2, unbiased=False).sqrt()], dim=1)


@dataclass
class Moments:
    """The Gaussian that models a set: mean [D] and covariance [D, D], float64."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(vectors: np.ndarray) -> Moments:
    """Mean and covariance of at least one vector [n, D]; the covariance divides by n."""
    vectors = np.asarray(vectors, np.float64)
    mean = vectors.mean(0)
    centred = vectors - mean
    return Moments(mean, centred.T @ centred / len(vectors))


def root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance; eigenvalues that rounding made negative count as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def distance(first: Moments, second: Moments) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians (Dowson and Landau 1982).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The trace of the last root is the sum of the singular values of
    C1^(1/2) C2^(1/2). This needs no inverse, so singular covariances (few or equal vectors) are allowed.
    """
    shared = np.linalg.svd(root(first.covariance) @ root(second.covariance), compute_uv=False).sum()
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2 * shared
    return float(max(0.0, np.square(first.mean - second.mean).sum() + spread))


def frechet(first: np.ndarray, second: np.ndarray) -> float | None:
    """Fréchet distance of two sets of vectors [n, D] and [m, D]; None if one has fewer than two vectors."""
    if min(len(first), len(second)) < 2:
        return None
    return distance(moments(first), moments(second))


def noise_floor(vectors: np.ndarray, groups: np.ndarray, seed: int = 0) -> float | None:
    """Mean distance between two random halves of a set [n, D], over HALVINGS splits.

    `groups` [n]: rows of one group stay in the same half. None with fewer than four vectors or two groups.
    """
    names = np.unique(groups)
    if len(names) < 2 or len(vectors) < 4:
        return None
    rng = np.random.default_rng(seed)
    found: list[float | None] = []
    for _ in range(HALVINGS):
        here = np.isin(groups, rng.permutation(names)[: len(names) // 2])
        found.append(frechet(vectors[here], vectors[~here]))
    distances = [value for value in found if value is not None]
    return float(np.mean(distances)) if distances else None
