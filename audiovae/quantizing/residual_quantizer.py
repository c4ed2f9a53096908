"""Residual vector quantization: each codebook quantizes what the codebooks before it leave over.

Zeghidour et al. 2021, "SoundStream", algorithm 1, over codebooks kept by exponential moving averages.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiovae.layers.noise import Noise
from audiovae.layers.trunk import start_as_projection
from audiovae.quantizing.codebook import costs, on_sphere, squared_distances
from audiovae.quantizing.commitment import TINY, anchor, effective_beta
from audiovae.quantizing.ema_codebooks import EPSILON, EMACodebooks
from audiovae.quantizing.quantizer import Quantized, QuantizerConfig
from audiovae.quantizing.straight_through import GRADIENTS
from audiovae.results import Statistics

# Vectors of each item that are candidates to replace dead codes.
CANDIDATES = 8


class ResidualQuantizer(EMACodebooks):
    """Quantizes latents [B, latent, T]: Q codebooks of K codes in D dimensions, D being `latent` by default."""

    def __init__(self, config: QuantizerConfig, latent: int) -> None:
        dimension = config.dimension or latent
        super().__init__(config, dimension)
        self.down = self.up = None
        if config.dimension:
            self.down, self.up = nn.Linear(latent, dimension), nn.Linear(dimension, latent)
            start_as_projection(self.down, self.up)

    def effective_beta(self) -> Tensor:
        """The commitment weight in units of beta_0, a scalar; see `commitment.effective_beta`."""
        return effective_beta(self.variance, self.reference, self.config.commitment, self.config.largest_beta)

    def forward(self, latents: Tensor, noise: Noise | None = None) -> Quantized:
        """Quantizes [B, latent, T]. Before the codebooks have started, the latents pass unchanged.

        Args:
            latents: Any float type; everything here is computed in float32.
            noise: Draws the codebook dropout and the candidates for dead codes, in training only.
        """
        with torch.autocast(latents.device.type, enabled=False):
            vectors = self._project_in(latents.float())  # [B, T, D]
            return self._quantize(vectors, noise) if self.quantizing else self._pass(vectors)

    def _pass(self, vectors: Tensor) -> Quantized:
        """The result before the codebooks have started."""
        items, frames, _ = vectors.shape
        zero = vectors.new_zeros(items)
        codes = vectors.new_zeros(items, self.config.codebooks, frames, dtype=torch.long)
        statistics = self._moments(vectors.detach())
        if self.training:
            statistics.items["vectors"] = vectors.detach()
        losses = {"anchor": zero, "commitment": zero, "diversity": zero}
        return Quantized(self._project_out(vectors), codes, losses, self._metrics(), statistics)

    def _quantize(self, vectors: Tensor, noise: Noise | None) -> Quantized:
        items, frames, _ = vectors.shape
        losses = {"anchor": self._anchor(vectors)}  # first: the order of terms decides how their gradients are rounded
        in_use = self._codebooks_in_use(vectors, noise)  # [B]
        candidates = noise.integers(frames, CANDIDATES) if self.training and noise is not None else None  # [B, m]
        residual, value = vectors, torch.zeros_like(vectors)
        commitment, diversity = vectors.new_zeros(items), vectors.new_zeros(items)
        chosen, sums, offers = [], [], []
        for q in range(self.config.codebooks):
            used = (in_use > q).to(residual)  # [B]
            distances, choice = self._assign(q, residual)
            entry = F.embedding(choice, self.codes[q])  # [B, T, D]
            commitment = commitment + used * (residual - entry).square().flatten(1).mean(1)
            if self.training:
                share = self._soft_share(distances)  # [B, K]
                diversity = diversity + used * self._log_usage(q, share)
                sums.append(self._sums(residual.detach(), choice, share.detach(), used))
            if candidates is not None:
                index = candidates.unsqueeze(-1).expand(-1, -1, residual.shape[-1])
                offers.append(residual.detach().gather(1, index))
            chosen.append(choice)
            value = value + used.view(-1, 1, 1) * entry
            # The next codebook sees what is left, and its commitment pulls the encoder, not this codebook.
            residual = residual - entry
        factor = self.effective_beta()
        if self.config.commitment == "adaptive":
            factor = factor / self.reference.clamp_min(TINY)
        losses |= {"commitment": factor * commitment / in_use, "diversity": diversity / in_use}
        passed = GRADIENTS[self.config.gradient](vectors, value)
        statistics = self._statistics(vectors.detach(), in_use, sums, offers)
        return Quantized(self._project_out(passed), torch.stack(chosen, 1), losses, self._metrics(), statistics)

    def _assign(self, q: int, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances to the codes of codebook q, and the chosen codes: [B, T, D] -> [B, T, K], [B, T]."""
        flat = residual.flatten(0, 1)
        distances = squared_distances(flat, self.codes[q])
        choice = costs(distances.detach(), flat.detach(), self.counts[q], self.config.balance).argmin(1)
        return distances.view(*residual.shape[:2], -1), choice.view(residual.shape[:2])

    def _soft_share(self, distances: Tensor) -> Tensor:
        """The share of each code in a soft assignment of an item's vectors: [B, T, K] -> [B, K]."""
        return torch.softmax(-distances / (self.config.softness * self.variance.clamp_min(TINY)), dim=2).mean(1)

    def _log_usage(self, q: int, share: Tensor) -> Tensor:
        """The diversity term of codebook q: log(K * usage), weighted by the soft shares [B, K] of each item: [B]."""
        return share @ (self.usage[q] * self.config.size).clamp_min(EPSILON).log()

    def _sums(self, residual: Tensor, choice: Tensor, share: Tensor, used: Tensor) -> dict[str, Tensor]:
        """One codebook's part of `Statistics.sums`: counts [K], totals [K, D], usage [K].

        Args:
            residual: [B, T, D] the vectors that the codebook quantizes.
            choice: [B, T] int64 codes.
            share: [B, K] the soft assignment.
            used: [B] 1 where an item uses the codebook, else 0.
        """
        weight = used.repeat_interleave(choice.shape[1])  # [B * T]
        members = residual.flatten(0, 1) * weight.unsqueeze(1)
        size = self.config.size
        return {
            "counts": weight.new_zeros(size).index_add_(0, choice.flatten(), weight),
            "totals": members.new_zeros(size, members.shape[1]).index_add_(0, choice.flatten(), members),
            "usage": used @ share,
        }

    def _statistics(
        self, vectors: Tensor, in_use: Tensor, sums: list[dict[str, Tensor]], offers: list[Tensor]
    ) -> Statistics:
        """The parts of all codebooks together; empty outside training."""
        statistics = self._moments(vectors)
        if sums:
            statistics.sums |= {name: torch.stack([own[name] for own in sums]) for name in sums[0]}
            place = torch.arange(self.config.codebooks, device=in_use.device)
            statistics.sums["items"] = (in_use.unsqueeze(1) > place).sum(0).float()
        if offers:
            statistics.items |= {"offers": torch.stack(offers, dim=2), "in_use": in_use.float()}  # [B, m, Q, D]
        return statistics

    def decode(self, codes: Tensor) -> Tensor:
        """[B, Q, T] int64 -> [B, latent, T]. Fewer codebooks than Q are allowed and give a coarser value."""
        return self._project_out(self._sum(codes))

    def blend(self, first: Tensor, second: Tensor, weight: float) -> Tensor:
        """Codes [B, Q, T] of the point between two sums of codes; `weight` in [0, 1] is the share of the second."""
        return self._choose(torch.lerp(self._sum(first), self._sum(second), weight), first.shape[1])

    def encode(self, latents: Tensor) -> Tensor:
        """The codes of `forward`, [B, latent, T] -> [B, Q, T] int64; zeros before the codebooks have started."""
        items, _, frames = latents.shape
        if not self.quantizing:
            return latents.new_zeros(items, self.config.codebooks, frames, dtype=torch.long)
        with torch.autocast(latents.device.type, enabled=False):
            return self._choose(self._project_in(latents.float()), self.config.codebooks)

    @torch.no_grad()
    def quantization_regret(self, latents: Tensor, codes: Tensor) -> Tensor:
        """How much lower the cost of the best code is than that of the given one: [B, Q, T], per dimension.

        Args:
            latents: [B, latent, T] as in `forward`.
            codes: [B, Q, T] int64. Each codebook is judged on what the given codes before it leave over.
        """
        residual = self._project_in(latents.float())
        rows = []
        for q in range(codes.shape[1]):
            costs = self._costs(q, residual.flatten(0, 1)).view(*residual.shape[:2], -1)
            taken = costs.gather(2, codes[:, q].unsqueeze(2)).squeeze(2)
            rows.append((taken - costs.amin(2)) / residual.shape[2])
            residual = residual - F.embedding(codes[:, q], self.codes[q])
        return torch.stack(rows, 1)

    def _costs(self, q: int, vectors: Tensor) -> Tensor:
        """The cost of each code of codebook q for vectors [N, D], up to a constant for each vector: [N, K]."""
        distances = squared_distances(vectors, self.codes[q])
        return costs(distances, vectors, self.counts[q], self.config.balance)

    def _choose(self, vectors: Tensor, codebooks: int) -> Tensor:
        """The cheapest code of each codebook for what those before it leave over: [B, T, D] -> [B, codebooks, T]."""
        residual, chosen = vectors, []
        for q in range(codebooks):
            choice = self._costs(q, residual.flatten(0, 1)).argmin(1).view(residual.shape[:2])
            residual = residual - F.embedding(choice, self.codes[q])
            chosen.append(choice)
        return torch.stack(chosen, 1)

    def _sum(self, codes: Tensor) -> Tensor:
        """[B, Q, T] int64 -> [B, T, D]."""
        return cast(Tensor, sum(F.embedding(codes[:, q], self.codes[q]) for q in range(codes.shape[1])))

    def _project_in(self, latents: Tensor) -> Tensor:
        """[B, latent, T] -> the vectors that the codebooks quantize: [B, T, D]."""
        vectors = latents.transpose(1, 2)
        if self.down is not None:
            vectors = self.down(vectors)
        return on_sphere(vectors) if self.config.l2 else vectors

    def _project_out(self, values: Tensor) -> Tensor:
        """[B, T, D] -> [B, latent, T]."""
        return (values if self.up is None else self.up(values)).transpose(1, 2)

    def _codebooks_in_use(self, vectors: Tensor, noise: Noise | None) -> Tensor:
        """How many codebooks each item uses: [B] int64; all of them, except under codebook dropout in training."""
        in_use = torch.full((len(vectors),), self.config.codebooks, device=vectors.device)
        if not (self.training and self.config.dropout and noise is not None):
            return in_use
        fewer = noise.integers(1 << 24) < self.config.dropout * (1 << 24)
        return torch.where(fewer, 1 + noise.integers(self.config.codebooks), in_use)

    def _moments(self, vectors: Tensor) -> Statistics:
        """The sums from which `update` takes the mean and variance of the latents; empty outside training."""
        if not self.training:
            return Statistics()
        flat = vectors.reshape(-1, vectors.shape[-1])
        return Statistics({"vectors": flat.new_full((), len(flat)), "sum": flat.sum(0), "square": flat.square().sum(0)})

    def _anchor(self, vectors: Tensor) -> Tensor:
        """The anchor loss of each item, [B]; zero unless the commitment is adaptive."""
        if self.config.commitment != "adaptive":
            return vectors.new_zeros(len(vectors))
        return anchor(vectors, self.mean, self.variance, self.reference, self.config.largest_beta)

    def _metrics(self) -> dict[str, Tensor]:
        share = self.counts / self.counts.sum(1, keepdim=True).clamp_min(EPSILON)
        perplexity = torch.exp(-(share * share.clamp_min(1e-10).log()).sum(1))
        dead = share < self.config.restart_below / self.config.size
        return {
            "perplexity": perplexity.mean(),
            "dead_codes": dead.float().sum(1).mean(),
            "latent_variance": self.variance.clone(),
            "effective_beta": self.effective_beta(),
            "restarts": self.restarts.clone(),
        }
