"""Residual vector quantisation with codebooks kept by exponential moving averages.

Codebooks follow van den Oord et al. 2017 ("Neural Discrete Representation Learning", appendix A.1) and the
residual stack Zeghidour et al. 2021 ("SoundStream", algorithm 1). Nothing here knows of other processes: a
forward pass returns sums, the caller joins those of all processes, and `update` applies them, the same on
every process.
"""

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiovae.layers.noise import Noise
from audiovae.layers.trunk import start_as_projection
from audiovae.quantizing.codebook import costs, kmeans, on_sphere, restart_places, settling_decay, squared_distances
from audiovae.quantizing.commitment import TINY, anchor, effective_beta
from audiovae.quantizing.straight_through import GRADIENTS
from audiovae.results import Statistics

KMEANS_VECTORS = 16384
# Vectors that each item offers as new places for dead codes.
CANDIDATES = 8
EPSILON = 1e-5


@dataclass
class QuantizerConfig:
    """Codebooks and the commitment loss.

    Attributes:
        codebooks: Number of residual codebooks, 1 to 8; each quantises the residual of the codebooks before it.
        size: Number of codes in each codebook.
        decay: Decay of the codebooks' moving averages for each step; it starts smaller, see
            `codebook.settling_decay`.
        start_step: Optimizer steps without quantisation, after which k-means initializes the codebooks.
        balance: Penalty on codes that are used often, 0 to about 1; see `codebook.costs`.
        restart_below: A code whose use falls below this share of the mean use is dead, and is placed anew.
        largest_beta: Upper limit of the adaptive commitment, in units of beta_0; it grows when the variance S of the
            latents collapses.
        softness: Temperature of the soft assignment in the diversity term, in units of the variance S.
        commitment: "adaptive": the weight is beta_0 / S, within limits, and an anchor term keeps S at the value it
            had when the codebooks started. "fixed": beta_0 times the mean squared distance, without an anchor.
            "none": neither.
        dimension: Dimension of the codes; 0 means that of the latents. One linear layer before all codebooks
            projects down to it, and one after them projects up again (factorised codes; Yu et al. 2022,
            "Vector-quantized Image Modeling with Improved VQGAN", and Kumar et al. 2023, "DAC").
        l2: Quantise directions: inputs and the codes of the first codebook are scaled to length sqrt(D), so the first
            codebook chooses by cosine similarity. The other codebooks quantise residuals, which are not scaled.
        dropout: Probability that an item uses only the first n codebooks, with n uniform from 1 to all
            (Zeghidour et al. 2021, section III-C).
        gradient: How the gradient passes the quantiser; see `audiovae.quantizing.straight_through`.
    """

    codebooks: int = 8
    size: int = 1024
    decay: float = 0.99
    start_step: int = 200
    balance: float = 0.0
    restart_below: float = 0.03
    largest_beta: float = 10.0
    softness: float = 0.1
    commitment: Literal["adaptive", "fixed", "none"] = "adaptive"
    dimension: int = 0
    l2: bool = False
    dropout: float = 0.0
    gradient: Literal["straight-through", "rotation"] = "straight-through"

    def __post_init__(self) -> None:
        if not 1 <= self.codebooks <= 8:
            raise ValueError(f"codebooks is {self.codebooks}: choose 1 to 8")
        if self.size < 2 or not 0 < self.decay < 1 or self.start_step < 0:
            raise ValueError("a codebook has a size of 2 or more, a decay between 0 and 1, a start_step of 0 or more")
        if min(self.largest_beta, self.softness) <= 0 or not 0 <= self.restart_below < 1:
            raise ValueError("largest_beta and softness are above 0, restart_below is at least 0 and below 1")
        if self.balance < 0:
            raise ValueError(f"balance is {self.balance}: at least 0")
        for name in ("commitment", "gradient"):
            allowed = get_args(type(self).__annotations__[name])
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is '{getattr(self, name)}': choose {' or '.join(allowed)}")
        if self.dimension < 0:
            raise ValueError(f"dimension is {self.dimension}: 0 for that of the latents, or 1 and more")
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout is {self.dropout}: a probability, 0 to 1")
        if self.dropout and self.codebooks == 1:
            raise ValueError("dropout leaves codebooks out, and there is only one: set it to 0")


@dataclass
class Quantized:
    """Result of quantising [B, D, T].

    Attributes:
        values: [B, D, T] with a gradient for the encoder.
        codes: [B, Q, T] int64; of all codebooks, also of those that `values` leaves out by dropout.
        losses: `commitment`, `anchor`, `diversity`, each [B]; the first and last are means over codebooks in use.
        metrics: Detached scalars, means over codebooks: `perplexity`, `dead_codes` (still waiting for a place),
            `restarts` (codes placed anew by the last update), `latent_variance` S, and `effective_beta`, the
            commitment in units of beta_0 at the start of the codebooks.
        statistics: For `ResidualQuantizer.update`.
    """

    values: Tensor
    codes: Tensor
    losses: dict[str, Tensor]
    metrics: dict[str, Tensor]
    statistics: Statistics


class ResidualQuantizer(nn.Module):
    """Q codebooks of K codes in D dimensions; every statistic is a buffer and so part of a checkpoint."""

    def __init__(self, config: QuantizerConfig, latent: int) -> None:
        super().__init__()
        self.config = config
        q, k, d = config.codebooks, config.size, config.dimension or latent
        self.down = self.up = None
        if config.dimension:
            self.down, self.up = nn.Linear(latent, d), nn.Linear(d, latent)
            start_as_projection(self.down, self.up)
        self.codes = nn.Buffer(torch.zeros(q, k, d))
        self.counts = nn.Buffer(torch.zeros(q, k))
        self.totals = nn.Buffer(torch.zeros(q, k, d))
        self.usage = nn.Buffer(torch.full((q, k), 1.0 / k))
        self.mean = nn.Buffer(torch.zeros(d))
        self.variance = nn.Buffer(torch.ones(()))
        self.reference = nn.Buffer(torch.ones(()))  # the variance S when the codebooks started
        self.started = nn.Buffer(torch.zeros((), dtype=torch.bool))
        self.restarts = nn.Buffer(torch.zeros(()))
        self.updates = nn.Buffer(torch.zeros(()))  # since the codebooks started
        self.quantizing = False
        self.register_load_state_dict_pre_hook(ResidualQuantizer._before_load)
        self.register_load_state_dict_post_hook(ResidualQuantizer._after_load)

    def _before_load(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        # Models saved before restarts were counted have no count of them.
        state.setdefault(f"{prefix}restarts", torch.zeros(()))
        # Before there was a reference the anchor pulled S to 1.
        state.setdefault(f"{prefix}reference", torch.ones(()))
        state.setdefault(f"{prefix}updates", torch.tensor(1e6))  # long settled

    def _after_load(self, _keys: object) -> None:
        # A Python flag beside the buffer: asking the device at every step would make the host wait.
        self.quantizing = bool(self.started)

    def effective_beta(self) -> Tensor:
        """Commitment to the codes in units of beta_0, see `commitment.effective_beta`."""
        return effective_beta(self.variance, self.reference, self.config.commitment, self.config.largest_beta)

    def forward(self, latents: Tensor, noise: Noise | None = None) -> Quantized:
        """Quantises [B, D, T]; before the codebooks have started the latents pass unchanged."""
        with torch.autocast(latents.device.type, enabled=False):
            return self._forward(latents.float(), noise)

    def _forward(self, latents: Tensor, noise: Noise | None) -> Quantized:
        items, _, frames = latents.shape
        vectors = self._project_in(latents)  # [B, T, D]
        statistics = self._moments(vectors.detach())
        losses = {"anchor": self._anchor(vectors)}
        if not self.quantizing:
            zero = latents.new_zeros(items)
            codes = latents.new_zeros(items, self.config.codebooks, frames, dtype=torch.long)
            if self.training:
                statistics.items["vectors"] = vectors.detach()
            losses |= {"commitment": zero, "diversity": zero}
            return Quantized(self._project_out(vectors), codes, losses, self._metrics(), statistics)

        in_use = self._codebooks_in_use(items, latents, noise)  # [B]
        candidates = None
        if self.training and noise is not None:
            candidates = noise.integers(frames, CANDIDATES)  # [B, m]
        residual = vectors
        value = torch.zeros_like(residual)
        commitment = latents.new_zeros(items)
        diversity = latents.new_zeros(items)
        chosen, counts, totals, soft, offers = [], [], [], [], []
        for q in range(self.config.codebooks):
            used = (in_use > q).to(residual)  # [B]
            flat = residual.reshape(-1, residual.shape[-1])
            distances = squared_distances(flat, self.codes[q])
            choice = costs(distances.detach(), flat.detach(), self.counts[q], self.config.balance).argmin(1)
            entry = F.embedding(choice, self.codes[q]).view_as(residual)
            commitment = commitment + used * (residual - entry).square().flatten(1).mean(1)
            if self.training:
                share = torch.softmax(-distances / (self.config.softness * self.variance.clamp_min(TINY)), dim=1)
                share = share.view(items, frames, -1).mean(1)  # [B, K]
                rarity = share @ (self.usage[q] * self.config.size).clamp_min(EPSILON).log()
                diversity = diversity + used * rarity
                soft.append(used @ share.detach())
                weight = used.repeat_interleave(frames)  # [B * T]
                counts.append(torch.zeros_like(self.counts[q]).index_add_(0, choice, weight))
                members = flat.detach() * weight.unsqueeze(1)
                totals.append(torch.zeros_like(self.codes[q]).index_add_(0, choice, members))
                if candidates is not None:
                    index = candidates.unsqueeze(-1).expand(-1, -1, residual.shape[-1])
                    offers.append(residual.detach().gather(1, index))
            chosen.append(choice.view(items, frames))
            value = value + used.view(-1, 1, 1) * entry
            # The next codebook sees what is left, and its commitment pulls the encoder, not this codebook.
            residual = residual - entry
        if self.training:
            statistics.sums |= {
                "counts": torch.stack(counts),
                "totals": torch.stack(totals),
                "usage": torch.stack(soft),
                "items": (in_use.unsqueeze(1) > torch.arange(self.config.codebooks, device=in_use.device))
                .sum(0)
                .float(),
            }
            if offers:
                statistics.items["offers"] = torch.stack(offers, dim=2)  # [B, m, Q, D]
                statistics.items["in_use"] = in_use.float()
        factor = self.effective_beta()
        if self.config.commitment == "adaptive":
            factor = factor / self.reference.clamp_min(TINY)
        losses |= {"commitment": factor * commitment / in_use, "diversity": diversity / in_use}
        passed = GRADIENTS[self.config.gradient](vectors, value)
        return Quantized(self._project_out(passed), torch.stack(chosen, 1), losses, self._metrics(), statistics)

    def decode(self, codes: Tensor) -> Tensor:
        """[B, Q, T] int64 -> [B, latent, T]; fewer codebooks than Q are allowed and give a coarser value."""
        return self._project_out(self._sum(codes))

    def blend(self, first: Tensor, second: Tensor, weight: float) -> Tensor:
        """Codes [B, Q, T] of the point between two sums of codes, `weight` being the second one's share."""
        return self._choose(torch.lerp(self._sum(first), self._sum(second), weight), first.shape[1])

    def encode(self, latents: Tensor) -> Tensor:
        """The codes of `forward` alone, [B, D, T] -> [B, Q, T] int64: zeros before the codebooks have started."""
        items, _, frames = latents.shape
        if not self.quantizing:
            return latents.new_zeros(items, self.config.codebooks, frames, dtype=torch.long)
        with torch.autocast(latents.device.type, enabled=False):
            return self._choose(self._project_in(latents.float()), self.config.codebooks)

    @torch.no_grad()
    def quantization_regret(self, latents: Tensor, codes: Tensor) -> Tensor:
        """How much cheaper the best code was than the given one, a mean square over dimensions: [B, Q, T].

        Args:
            latents: [B, D, T] as in `forward`.
            codes: [B, Q, T] int64; what each codebook had left to quantise follows from those before.
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
        """What each code of a codebook costs for vectors [N, D], less a constant for each vector: [N, K]."""
        distances = squared_distances(vectors, self.codes[q])
        return costs(distances, vectors, self.counts[q], self.config.balance)

    def _choose(self, vectors: Tensor, codebooks: int) -> Tensor:
        """The best code of each codebook for what those before left over: [B, T, D] -> [B, codebooks, T]."""
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
        """[B, latent, T] -> what the codes stand for: [B, T, D]."""
        vectors = latents.transpose(1, 2)
        if self.down is not None:
            vectors = self.down(vectors)
        return on_sphere(vectors) if self.config.l2 else vectors

    def _project_out(self, values: Tensor) -> Tensor:
        """[B, T, D] -> [B, latent, T]."""
        return (values if self.up is None else self.up(values)).transpose(1, 2)

    def _codebooks_in_use(self, items: int, latents: Tensor, noise: Noise | None) -> Tensor:
        """How many codebooks each item uses: [B] int64."""
        in_use = torch.full((items,), self.config.codebooks, device=latents.device)
        if not (self.training and self.config.dropout and noise is not None):
            return in_use
        fewer = noise.integers(1 << 24) < self.config.dropout * (1 << 24)
        return torch.where(fewer, 1 + noise.integers(self.config.codebooks), in_use)

    def _moments(self, vectors: Tensor) -> Statistics:
        if not self.training:
            return Statistics()
        flat = vectors.reshape(-1, vectors.shape[-1])
        return Statistics({"vectors": flat.new_full((), len(flat)), "sum": flat.sum(0), "square": flat.square().sum(0)})

    def _anchor(self, vectors: Tensor) -> Tensor:
        """Of each item, [B]; before the codebooks started there is none."""
        if self.config.commitment != "adaptive" or not self.quantizing:
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

    @torch.no_grad()
    def update(self, statistics: Statistics, step: int) -> None:
        """Moves the codebooks by the statistics of the whole global batch.

        Deterministic in its arguments, so that processes given the same statistics stay the same. Sums
        that are not finite leave everything as it was.
        """
        sums, decay = statistics.sums, settling_decay(self.updates, self.config.decay)
        finite = torch.stack([value.isfinite().all() for value in sums.values()]).all()
        before = {name: buffer.clone() for name, buffer in self.named_buffers()}
        self._update_moments(sums, decay)
        generator = torch.Generator().manual_seed(step)
        if self.quantizing:
            self.counts.mul_(decay).add_(sums["counts"] * (1 - decay))
            self.totals.mul_(decay).add_(sums["totals"] * (1 - decay))
            items = sums["items"].unsqueeze(1)  # [Q, 1]
            usage = torch.where(items > 0, sums["usage"] / items.clamp_min(1), self.usage)
            self.usage.mul_(decay).add_(usage * (1 - decay))
            # Add-epsilon smoothing keeps the total and never divides by zero.
            total = self.counts.sum(1, keepdim=True)
            smooth = (self.counts + EPSILON) / (total + self.config.size * EPSILON) * total
            self.codes.copy_(self.totals / smooth.clamp_min(EPSILON).unsqueeze(-1))
            self._keep_directions()
            self._restart(statistics.items["offers"], statistics.items["in_use"], generator)
            self.updates.add_(1)
        elif step >= self.config.start_step and finite.item():
            self._start(statistics.items["vectors"].flatten(0, 1), generator)
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.where(finite, buffer, before[name]))

    def _update_moments(self, sums: dict[str, Tensor], decay: Tensor) -> None:
        number = sums["vectors"].clamp_min(1)
        mean = sums["sum"] / number
        variance = (sums["square"] / number - mean.square()).clamp_min(0).mean()
        if not self.quantizing:  # towers move fast before, and nothing rests on the moments yet
            decay = torch.zeros_like(decay)
        self.mean.mul_(decay).add_(mean * (1 - decay))
        self.variance.mul_(decay).add_(variance * (1 - decay))
        if not self.quantizing:
            self.reference.copy_(self.variance)

    def _start(self, vectors: Tensor, generator: torch.Generator) -> None:
        if len(vectors) > KMEANS_VECTORS:
            vectors = vectors[torch.randperm(len(vectors), generator=generator)[:KMEANS_VECTORS].to(vectors.device)]
        residual = vectors
        self.mean.copy_(residual.mean(0))
        self.variance.copy_(residual.var(0, unbiased=False).mean())
        self.reference.copy_(self.variance)
        for q in range(self.config.codebooks):
            self.codes[q], self.counts[q], self.totals[q] = kmeans(residual, self.config.size, generator)
            if q == 0:
                self._keep_directions()
            # An empty mean would be pulled to zero by its zero total.
            self.counts[q].clamp_min_(1.0)
            self.totals[q] = self.codes[q] * self.counts[q].unsqueeze(1)
            choice = squared_distances(residual, self.codes[q]).argmin(1)
            residual = residual - self.codes[q][choice]
        self.started.fill_(True)
        self.quantizing = True

    def _keep_directions(self) -> None:
        """With l2 the first codebook holds directions."""
        if self.config.l2:
            self.codes[0] = on_sphere(self.codes[0])

    def _restart(self, offers: Tensor, in_use: Tensor, generator: torch.Generator) -> None:
        """Gives dead codes a new place among the offered vectors [B, m, Q, D]: code, count and total.

        An item offers to the codebooks that it uses, the first `in_use` [B] of them.
        """
        in_use = in_use.unsqueeze(1).expand(offers.shape[:2]).flatten()
        offers = offers.flatten(0, 1)
        order = torch.randperm(len(offers), generator=generator).to(offers.device)
        offers, in_use = offers[order], in_use[order]
        self.restarts.zero_()
        for q in range(self.config.codebooks):
            fresh = self.counts[q].mean()
            unused = self.counts[q] < self.config.restart_below * fresh
            dead, place = restart_places(unused, offers[:, q], in_use > q)
            self.codes[q] = torch.where(dead.unsqueeze(1), place, self.codes[q])
            self.counts[q] = torch.where(dead, fresh, self.counts[q])
            self.totals[q] = torch.where(dead.unsqueeze(1), place * fresh, self.totals[q])
            self.restarts.add_(dead.sum() / self.config.codebooks)
