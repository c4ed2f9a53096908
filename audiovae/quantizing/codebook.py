"""Operations on one codebook: distances, initialization by k-means, replacement of dead codes."""

import torch
import torch.nn.functional as F
from torch import Tensor

KMEANS_ROUNDS = 10
# Averages over fewer than ten batches would mostly reflect the last batch.
MIN_DECAY = 0.9


def squared_distances(vectors: Tensor, codes: Tensor) -> Tensor:
    """[N, D] and [K, D] -> [N, K], without the squared norm of the vectors, which is the same for every code."""
    return codes.square().sum(1) - 2 * vectors @ codes.T


def costs(distances: Tensor, vectors: Tensor, counts: Tensor, balance: float) -> Tensor:
    """The assignment cost of each code for each vector: squared distance times (K p)^balance, p being its share of use.

    A vector is assigned to the code of the lowest cost. This is frequency-sensitive competitive learning (Ahalt,
    Krishnamurthy, Chen and Melton 1990, "Competitive learning algorithms for vector quantization"). A factor acts alike
    on the many codes near silence and on those far out.

    Args:
        distances: [N, K] from `squared_distances`.
        vectors: [N, D].
        counts: [K] moving averages of use.
        balance: From 0, where only the distance counts, to about 1.

    Returns:
        [N, K]; with a balance of 0, `distances` unchanged.
    """
    if not balance:
        return distances
    share = counts / counts.sum().clamp_min(1e-9)
    whole = (distances + vectors.square().sum(1, keepdim=True)).clamp_min(0)
    return whole * (share * len(counts)).clamp_min(1e-2).pow(balance)


def settling_decay(updates: Tensor, decay: float) -> Tensor:
    """Decay of the moving averages after n updates: (1 + n) / (10 + n), at least 0.9 and at most `decay`.

    K-means has seen one batch, and the encoder still moves fast at that time, so that long averages would lag behind.
    """
    return ((1 + updates) / (10 + updates)).clamp(min(MIN_DECAY, decay), decay)


def on_sphere(vectors: Tensor) -> Tensor:
    """Scales vectors [..., D] to length sqrt(D), so that the mean square over dimensions is 1; zero stays zero."""
    return F.normalize(vectors, dim=-1, eps=1e-6) * vectors.shape[-1] ** 0.5


def kmeans(vectors: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """K-means by Lloyd's algorithm, initialized with randomly chosen vectors.

    Args:
        vectors: [N, D]. With N < size, some are used twice with a little noise added.
        size: Number of means K.
        generator: A generator on the CPU, so that every process chooses the same vectors.

    Returns:
        Means [K, D], numbers of members [K], sums of the members [K, D].
    """
    order = torch.randperm(len(vectors), generator=generator)
    picked = order.repeat(-(-size // len(vectors)))[:size].to(vectors.device)
    means = vectors[picked]
    twice = (torch.arange(size) >= len(vectors)).to(vectors).unsqueeze(1)
    jitter = torch.randn(means.shape, generator=generator).to(vectors)
    means = means + 0.01 * twice * jitter * vectors.std()
    for _ in range(KMEANS_ROUNDS):
        choice = squared_distances(vectors, means).argmin(1)
        # A matrix product, because scatter-add on a GPU is not deterministic.
        member = (choice == torch.arange(size, device=choice.device).unsqueeze(1)).to(vectors)  # [K, N]
        count, total = member.sum(1), member @ vectors
        means = torch.where(count.unsqueeze(1) > 0, total / count.clamp_min(1).unsqueeze(1), means)
    return means, count, total


def restart_places(dead: Tensor, offers: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Assigns the n-th valid candidate to the n-th dead code. Dead codes without a candidate wait for the next step.

    Args:
        dead: [K] bool.
        offers: [N, D] candidates in the order of their use.
        valid: [N] bool, which candidates may be used.

    Returns:
        Which codes are replaced, [K] bool, and their new values [K, D].
    """
    offers = offers[(~valid).to(torch.uint8).argsort(stable=True)]
    rank = dead.cumsum(0) - 1
    return dead & (rank < valid.sum()), offers[rank.clamp(0, len(offers) - 1)]
