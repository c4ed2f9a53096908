"""What concerns one codebook: distances, the start from k-means, new places for dead codes."""

import torch
import torch.nn.functional as F
from torch import Tensor

KMEANS_ROUNDS = 10
# Averages over fewer than ten batches would mostly count the codes of the last one.
MIN_DECAY = 0.9


def squared_distances(vectors: Tensor, codes: Tensor) -> Tensor:
    """[N, D] and [K, D] -> [N, K], without the vectors' own norm, which no choice depends on."""
    return codes.square().sum(1) - 2 * vectors @ codes.T


def costs(distances: Tensor, vectors: Tensor, counts: Tensor, balance: float) -> Tensor:
    """What each code costs for each vector, the cheapest being chosen: its distance, and how busy the code is.

    Squared distances are multiplied by (K p)^balance, where p is a code's share of use: frequency-sensitive
    competitive learning (Ahalt, Krishnamurthy, Chen and Melton 1990, "Competitive learning algorithms for vector
    quantization"). A factor acts at every scale alike, on the crowd of codes near silence as on those far out.

    Args:
        distances: [N, K] as of `squared_distances`.
        vectors: [N, D] that they belong to.
        counts: [K] moving averages of use.
        balance: From 0, where only distance counts, to about 1.

    Returns:
        [N, K]; with a balance of 0 `distances` as they are.
    """
    if not balance:
        return distances
    share = counts / counts.sum().clamp_min(1e-9)
    whole = (distances + vectors.square().sum(1, keepdim=True)).clamp_min(0)
    return whole * (share * len(counts)).clamp_min(1e-2).pow(balance)


def settling_decay(updates: Tensor, decay: float) -> Tensor:
    """Decay of moving averages that settle: (1 + n) / (10 + n) after n updates, at least 0.9 and at most `decay`.

    Codes fresh from k-means know one batch, and encoders still move fast: long averages would lag behind them.
    """
    return ((1 + updates) / (10 + updates)).clamp(min(MIN_DECAY, decay), decay)


def on_sphere(vectors: Tensor) -> Tensor:
    """Directions as vectors of length sqrt(D), so that a dimension's mean square is 1: [..., D]; zero stays zero."""
    return F.normalize(vectors, dim=-1, eps=1e-6) * vectors.shape[-1] ** 0.5


def kmeans(vectors: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Lloyd's algorithm from a random choice of the vectors.

    Args:
        vectors: [N, D]; with N < size some are taken twice, a little apart.
        size: Number of means K.
        generator: On the CPU, so that every process chooses alike.

    Returns:
        Means [K, D], members of each [K], sums of the members [K, D].
    """
    order = torch.randperm(len(vectors), generator=generator)
    picked = order.repeat(-(-size // len(vectors)))[:size].to(vectors.device)
    means = vectors[picked]
    twice = (torch.arange(size) >= len(vectors)).to(vectors).unsqueeze(1)
    jitter = torch.randn(means.shape, generator=generator).to(vectors)
    means = means + 0.01 * twice * jitter * vectors.std()
    for _ in range(KMEANS_ROUNDS):
        choice = squared_distances(vectors, means).argmin(1)
        # A matrix product, since scattered additions on a GPU come out a little different each time.
        member = (choice == torch.arange(size, device=choice.device).unsqueeze(1)).to(vectors)  # [K, N]
        count, total = member.sum(1), member @ vectors
        means = torch.where(count.unsqueeze(1) > 0, total / count.clamp_min(1).unsqueeze(1), means)
    return means, count, total


def restart_places(dead: Tensor, offers: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The n-th dead code takes the n-th valid offer; where offers run out the rest waits for the next step.

    Args:
        dead: [K] bool.
        offers: [N, D] vectors in the order in which they are taken.
        valid: [N] bool, which of them may be taken.

    Returns:
        Which codes start anew [K] bool, and for those their places [K, D].
    """
    offers = offers[(~valid).to(torch.uint8).argsort(stable=True)]
    rank = dead.cumsum(0) - 1
    return dead & (rank < valid.sum()), offers[rank.clamp(0, len(offers) - 1)]
