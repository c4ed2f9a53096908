"""Residual vector quantisation with codebooks kept by exponential moving averages.

Codebooks follow van den Oord et al. 2017 ("Neural Discrete Representation Learning", appendix A.1) and the
residual stack Zeghidour et al. 2021 ("SoundStream", algorithm 1). Nothing here knows of other processes: a
forward pass returns sums, the caller joins those of all processes, and `update` applies them, the same on
every process.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiovae.autoencoder import Statistics
from audiovae.noise import Noise

KMEANS_ROUNDS = 10
KMEANS_VECTORS = 16384
# Vectors that each item offers as new places for dead codes.
CANDIDATES = 8
EPSILON = 1e-5


@dataclass
class QuantizerConfig:
    """Codebooks and the commitment to them.

    Attributes:
        codebooks: Residual codebooks, 1 to 8; each quantises what the ones before left over.
        size: Codes in each codebook.
        decay: Of the moving averages, a step.
        start_step: Optimizer steps without quantisation before the codebooks start from k-means.
        restart_below: A code used less than this share of the mean use is dead and starts anew.
        largest_beta: Bound of the effective commitment beta_0 / S when the encoder's variance S collapses.
        softness: Temperature of the soft assignment in the diversity term, in units of the variance S.
    """

    codebooks: int = 8
    size: int = 1024
    decay: float = 0.99
    start_step: int = 200
    restart_below: float = 0.03
    largest_beta: float = 10.0
    softness: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.codebooks <= 8:
            raise ValueError(f"codebooks is {self.codebooks}: choose 1 to 8")
        if self.size < 2 or not 0 < self.decay < 1 or self.start_step < 0:
            raise ValueError("a codebook has a size of 2 or more, a decay between 0 and 1, a start_step of 0 or more")
        if min(self.largest_beta, self.softness) <= 0 or not 0 <= self.restart_below < 1:
            raise ValueError("largest_beta and softness are above 0, restart_below is at least 0 and below 1")


@dataclass
class Quantized:
    """Result of quantising [B, D, T].

    Attributes:
        values: [B, D, T] with the gradient passed straight to the encoder.
        codes: [B, Q, T] int64.
        losses: `commitment`, `anchor`, `diversity`, each [B].
        metrics: Detached scalars.
        statistics: For `ResidualQuantizer.update`.
    """

    values: Tensor
    codes: Tensor
    losses: dict[str, Tensor]
    metrics: dict[str, Tensor]
    statistics: Statistics


def squared_distances(vectors: Tensor, codes: Tensor) -> Tensor:
    """[N, D] and [K, D] -> [N, K], without the vectors' own norm, which no choice depends on."""
    return codes.square().sum(1) - 2 * vectors @ codes.T


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


class ResidualQuantizer(nn.Module):
    """Q codebooks of K codes in D dimensions; every statistic is a buffer and so part of a checkpoint."""

    def __init__(self, config: QuantizerConfig, dimension: int) -> None:
        super().__init__()
        self.config = config
        q, k, d = config.codebooks, config.size, dimension
        self.register_buffer("codes", torch.zeros(q, k, d))
        self.register_buffer("counts", torch.zeros(q, k))
        self.register_buffer("totals", torch.zeros(q, k, d))
        self.register_buffer("usage", torch.full((q, k), 1.0 / k))
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.quantizing = False
        self.register_load_state_dict_post_hook(ResidualQuantizer._after_load)

    def _after_load(self, _keys: object) -> None:
        # A Python flag beside the buffer: asking the device at every step would make the host wait.
        self.quantizing = bool(self.started)

    def effective_beta(self) -> Tensor:
        """Commitment to the codes in units of beta_0: 1 / S, bounded."""
        return (1.0 / (self.variance + EPSILON)).clamp_max(self.config.largest_beta)

    def forward(self, latents: Tensor, noise: Noise | None = None) -> Quantized:
        """Quantises [B, D, T]; before the codebooks have started the latents pass unchanged."""
        with torch.autocast(latents.device.type, enabled=False):
            return self._forward(latents.float(), noise)

    def _forward(self, latents: Tensor, noise: Noise | None) -> Quantized:
        items, _, frames = latents.shape
        residual = latents.transpose(1, 2)  # [B, T, D]
        statistics = self._moments(residual.detach())
        losses = {"anchor": self._anchor(residual)}
        if not self.quantizing:
            zero = latents.new_zeros(items)
            codes = latents.new_zeros(items, self.config.codebooks, frames, dtype=torch.long)
            if self.training:
                statistics.items["vectors"] = residual.detach()
            losses |= {"commitment": zero, "diversity": zero}
            return Quantized(latents, codes, losses, self._metrics(), statistics)

        candidates = None
        if self.training and noise is not None:
            candidates = noise.integers(frames, CANDIDATES)  # [B, m]
        value = torch.zeros_like(residual)
        commitment = latents.new_zeros(items)
        diversity = latents.new_zeros(items)
        chosen, counts, totals, soft, offers = [], [], [], [], []
        for q in range(self.config.codebooks):
            flat = residual.reshape(-1, residual.shape[-1])
            distances = squared_distances(flat, self.codes[q])
            choice = distances.detach().argmin(1)
            entry = F.embedding(choice, self.codes[q]).view_as(residual)
            commitment = commitment + (residual - entry).square().flatten(1).mean(1)
            if self.training:
                share = torch.softmax(-distances / (self.config.softness * (self.variance + EPSILON)), dim=1)
                share = share.view(items, frames, -1).mean(1)  # [B, K]
                diversity = diversity + share @ (self.usage[q] * self.config.size).clamp_min(EPSILON).log()
                soft.append(share.detach().sum(0))
                counts.append(torch.bincount(choice, minlength=self.config.size).to(flat))
                totals.append(torch.zeros_like(self.codes[q]).index_add_(0, choice, flat.detach()))
                if candidates is not None:
                    index = candidates.unsqueeze(-1).expand(-1, -1, residual.shape[-1])
                    offers.append(residual.detach().gather(1, index))
            chosen.append(choice.view(items, frames))
            value = value + entry
            # The next codebook sees what is left, and its commitment pulls the encoder, not this codebook.
            residual = residual - entry
        if self.training:
            statistics.sums |= {
                "counts": torch.stack(counts),
                "totals": torch.stack(totals),
                "usage": torch.stack(soft),
                "items": latents.new_full((), items),
            }
            if offers:
                statistics.items["offers"] = torch.stack(offers, dim=2)  # [B, m, Q, D]
        losses |= {
            "commitment": self.effective_beta() * commitment / self.config.codebooks,
            "diversity": diversity / self.config.codebooks,
        }
        value = value.transpose(1, 2)
        straight = latents + (value - latents).detach()
        return Quantized(straight, torch.stack(chosen, 1), losses, self._metrics(), statistics)

    def decode(self, codes: Tensor) -> Tensor:
        """[B, Q, T] int64 -> [B, D, T]; fewer codebooks than Q are allowed and give a coarser value."""
        value = sum(F.embedding(codes[:, q], self.codes[q]) for q in range(codes.shape[1]))
        return value.transpose(1, 2)

    def _moments(self, vectors: Tensor) -> Statistics:
        if not self.training:
            return Statistics()
        flat = vectors.reshape(-1, vectors.shape[-1])
        return Statistics({"vectors": flat.new_full((), len(flat)), "sum": flat.sum(0), "square": flat.square().sum(0)})

    def _anchor(self, vectors: Tensor) -> Tensor:
        """Pulls log S towards 0: [B].

        The value is (log S)^2. Its gradient is taken at the running S and mean, where it is linear in the
        items, so that it does not depend on how a batch is divided over processes.
        """
        log_variance = (self.variance + EPSILON).log()
        slope = 2 * log_variance / (self.variance + EPSILON)
        spread = (vectors - self.mean).square().flatten(1).mean(1)
        # A slope of a collapsed variance is bounded like the commitment itself.
        slope = slope.clamp(-self.config.largest_beta, self.config.largest_beta)
        return log_variance.square() + slope * (spread - spread.detach())

    def _metrics(self) -> dict[str, Tensor]:
        share = self.counts / self.counts.sum(1, keepdim=True).clamp_min(EPSILON)
        perplexity = torch.exp(-(share * share.clamp_min(1e-10).log()).sum(1))
        dead = share < self.config.restart_below / self.config.size
        return {
            "perplexity": perplexity.mean(),
            "dead_codes": dead.float().sum(1).mean(),
            "latent_variance": self.variance.clone(),
            "effective_beta": self.effective_beta(),
        }

    @torch.no_grad()
    def update(self, statistics: Statistics, step: int) -> None:
        """Moves the codebooks by the statistics of the whole global batch.

        Deterministic in its arguments, so that processes given the same statistics stay the same. Sums
        that are not finite leave everything as it was.
        """
        sums, decay = statistics.sums, self.config.decay
        finite = torch.stack([value.isfinite().all() for value in sums.values()]).all()
        before = {name: buffer.clone() for name, buffer in self.named_buffers()}
        self._update_moments(sums, decay)
        generator = torch.Generator().manual_seed(step)
        if self.quantizing:
            self.counts.mul_(decay).add_(sums["counts"] * (1 - decay))
            self.totals.mul_(decay).add_(sums["totals"] * (1 - decay))
            self.usage.mul_(decay).add_(sums["usage"] / sums["items"].clamp_min(1) * (1 - decay))
            # Add-epsilon smoothing keeps the total and never divides by zero.
            total = self.counts.sum(1, keepdim=True)
            smooth = (self.counts + EPSILON) / (total + self.config.size * EPSILON) * total
            self.codes.copy_(self.totals / smooth.clamp_min(EPSILON).unsqueeze(-1))
            self._restart(statistics.items["offers"], generator)
        elif step >= self.config.start_step and finite.item():
            self._start(statistics.items["vectors"].flatten(0, 1), generator)
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.where(finite, buffer, before[name]))

    def _update_moments(self, sums: dict[str, Tensor], decay: float) -> None:
        number = sums["vectors"].clamp_min(1)
        mean = sums["sum"] / number
        variance = (sums["square"] / number - mean.square()).clamp_min(0).mean()
        self.mean.mul_(decay).add_(mean * (1 - decay))
        self.variance.mul_(decay).add_(variance * (1 - decay))

    def _start(self, vectors: Tensor, generator: torch.Generator) -> None:
        if len(vectors) > KMEANS_VECTORS:
            vectors = vectors[torch.randperm(len(vectors), generator=generator)[:KMEANS_VECTORS].to(vectors.device)]
        residual = vectors
        self.mean.copy_(residual.mean(0))
        self.variance.copy_(residual.var(0, unbiased=False).mean())
        for q in range(self.config.codebooks):
            self.codes[q], self.counts[q], self.totals[q] = kmeans(residual, self.config.size, generator)
            # An empty mean would be pulled to zero by its zero total.
            self.counts[q].clamp_min_(1.0)
            self.totals[q] = self.codes[q] * self.counts[q].unsqueeze(1)
            choice = squared_distances(residual, self.codes[q]).argmin(1)
            residual = residual - self.codes[q][choice]
        self.started.fill_(True)
        self.quantizing = True

    def _restart(self, offers: Tensor, generator: torch.Generator) -> None:
        """Gives dead codes a new place among the offered vectors [B, m, Q, D]: code, count and total."""
        offers = offers.flatten(0, 1)
        order = torch.randperm(len(offers), generator=generator).to(offers.device)
        offers = offers[order]
        for q in range(self.config.codebooks):
            fresh = self.counts[q].mean()
            dead = self.counts[q] < self.config.restart_below * fresh
            # The n-th dead code takes the n-th offer; where offers run out the rest waits for the next step.
            rank = dead.cumsum(0) - 1
            dead = dead & (rank < len(offers))
            place = offers[rank.clamp(0, len(offers) - 1), q]
            self.codes[q] = torch.where(dead.unsqueeze(1), place, self.codes[q])
            self.counts[q] = torch.where(dead, fresh, self.counts[q])
            self.totals[q] = torch.where(dead.unsqueeze(1), place * fresh, self.totals[q])
