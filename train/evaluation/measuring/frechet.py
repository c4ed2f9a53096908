"""Fréchet distance between two sets of sounds, without pairing them.

As in Heusel et al. 2017 (FID) and Kilgour et al. 2019 (Fréchet audio distance), but with an embedding that needs no
trained network. The values compare runs on the same shards. They cannot be compared with published FID or FAD values.
"""

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


def frechet(first: np.ndarray, second: np.ndarray) -> float | None:
    """Squared Fréchet (2-Wasserstein) distance of the Gaussians that model two sets of vectors [n, D] and [m, D].

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), with covariances that divide by n and m (Dowson and Landau 1982). With
    a factor R of each covariance C = R^T R, the trace of the last root is the sum of the singular values of R1 R2^T.
    This needs no inverse, so few or equal vectors are allowed. None if one set has fewer than two vectors.
    """
    if min(len(first), len(second)) < 2:
        return None
    (mean, factor), (other_mean, other_factor) = mean_and_factor(first), mean_and_factor(second)
    shared = np.linalg.svd(factor @ other_factor.T, compute_uv=False).sum()
    spread = np.square(factor).sum() + np.square(other_factor).sum() - 2 * shared
    return float(max(0.0, np.square(mean - other_mean).sum() + spread))


def mean_and_factor(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and a factor R [min(n, D), D] of the covariance R^T R of vectors [n, D]; both float64."""
    vectors = np.asarray(vectors, np.float64)
    mean = vectors.mean(0)
    scaled = (vectors - mean) / np.sqrt(len(vectors))
    if len(scaled) <= scaled.shape[1]:
        return mean, scaled
    values, directions = np.linalg.eigh(scaled.T @ scaled)
    return mean, np.sqrt(values.clip(0))[:, None] * directions.T  # rounding may make small eigenvalues negative


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
