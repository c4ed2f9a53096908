"""A stack of codebooks whose codes are exponential moving averages of the vectors assigned to them.

van den Oord et al. 2017, "Neural Discrete Representation Learning", appendix A.1. Nothing here knows of other
processes: a forward pass returns sums, the caller adds up those of all processes, and `update` applies them in the
same way on every process.
"""

from typing import Any

import torch
from torch import Tensor, nn

from audiovae.quantizing.codebook import kmeans, on_sphere, restart_places, settling_decay, squared_distances
from audiovae.quantizing.quantizer import QuantizerConfig
from audiovae.results import Statistics

# K-means starts from at most this many vectors.
KMEANS_VECTORS = 16384
EPSILON = 1e-5


class EMACodebooks(nn.Module):
    """Q codebooks of K codes in D dimensions. Every statistic is a buffer and thereby part of a checkpoint.

    Attributes:
        codes: [Q, K, D].
        counts: [Q, K] moving average of how many vectors a batch assigns to each code.
        totals: [Q, K, D] moving average of the sums of those vectors.
        usage: [Q, K] moving average of the soft assignment, for the diversity loss.
        mean, variance: [D] and [] of the latents; the variance S is a mean over dimensions.
        reference: [] the variance S when the codebooks started.
        started: [] bool, whether the codes have been initialized from k-means.
        restarts: [] codes replaced by the last update, a mean over codebooks.
        updates: [] updates since the start.
        quantizing: `started` as a Python flag.
        frozen: Whether `update` leaves everything as it is.
    """

    frozen = False

    # Buffers that neither encoding nor decoding reads. (`counts` matters to an assignment with a balance.)
    TRAINING_ONLY = ("totals", "usage", "mean", "variance", "reference", "restarts", "updates")

    def __init__(self, config: QuantizerConfig, dimension: int) -> None:
        super().__init__()
        self.config = config
        q, k, d = config.codebooks, config.size, dimension
        self.codes = nn.Buffer(torch.zeros(q, k, d))
        self.counts = nn.Buffer(torch.zeros(q, k))
        self.totals = nn.Buffer(torch.zeros(q, k, d))
        self.usage = nn.Buffer(torch.full((q, k), 1.0 / k))
        self.mean = nn.Buffer(torch.zeros(d))
        self.variance = nn.Buffer(torch.ones(()))
        self.reference = nn.Buffer(torch.ones(()))
        self.started = nn.Buffer(torch.zeros((), dtype=torch.bool))
        self.restarts = nn.Buffer(torch.zeros(()))
        self.updates = nn.Buffer(torch.zeros(()))
        self.quantizing = False
        self.register_load_state_dict_pre_hook(EMACodebooks._before_load)
        self.register_load_state_dict_post_hook(EMACodebooks._after_load)

    def _before_load(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        # Defaults for models that were saved before these buffers existed.
        state.setdefault(f"{prefix}restarts", torch.zeros(()))
        state.setdefault(f"{prefix}reference", torch.ones(()))  # the anchor pulled S to 1
        state.setdefault(f"{prefix}updates", torch.tensor(1e6))  # long settled

    def _after_load(self, _keys: object) -> None:
        # A Python flag, because reading the buffer at every step would make the host wait for the device.
        self.quantizing = bool(self.started)

    @torch.no_grad()
    def update(self, statistics: Statistics, step: int) -> None:
        """Moves the codebooks by the statistics of the whole global batch.

        The result depends only on the arguments, so processes with the same statistics stay identical. Sums that are
        not finite leave every buffer unchanged.

        Args:
            statistics: From `Quantized`, added up and gathered over all processes and micro-batches.
            step: The optimizer step, from 1. It seeds the random choices.
        """
        if self.frozen:
            return
        sums, decay = statistics.sums, settling_decay(self.updates, self.config.decay)
        finite = torch.stack([value.isfinite().all() for value in sums.values()]).all()
        before = {name: buffer.clone() for name, buffer in self.named_buffers()}
        self._update_moments(sums, decay)
        generator = torch.Generator().manual_seed(step)
        if self.quantizing:
            self._update_codes(sums, decay)
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
        if not self.quantizing:  # encoders move fast before the start, and nothing uses the moments yet
            decay = torch.zeros_like(decay)
        self.mean.mul_(decay).add_(mean * (1 - decay))
        self.variance.mul_(decay).add_(variance * (1 - decay))
        if not self.quantizing:
            self.reference.copy_(self.variance)

    def _update_codes(self, sums: dict[str, Tensor], decay: Tensor) -> None:
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

    def _start(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Initializes each codebook by k-means over what the codebooks before it leave of [N, D]."""
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
            # A code without members would be pulled to zero by its zero total.
            self.counts[q].clamp_min_(1.0)
            self.totals[q] = self.codes[q] * self.counts[q].unsqueeze(1)
            choice = squared_distances(residual, self.codes[q]).argmin(1)
            residual = residual - self.codes[q][choice]
        self.started.fill_(True)
        self.quantizing = True

    def _keep_directions(self) -> None:
        """With `l2` the codes of the first codebook are directions."""
        if self.config.l2:
            self.codes[0] = on_sphere(self.codes[0])

    def _restart(self, offers: Tensor, in_use: Tensor, generator: torch.Generator) -> None:
        """Replaces dead codes, their counts and totals by candidates from `offers` [B, m, Q, D].

        An item's vectors are candidates for the codebooks that the item uses, the first `in_use` [B] of them.
        """
        in_use = in_use.unsqueeze(1).expand(offers.shape[:2]).flatten()
        offers = offers.flatten(0, 1)
        order = torch.randperm(len(offers), generator=generator)
        if offers.is_cuda:  # a copy from other memory would wait for the GPU
            order = order.pin_memory()
        order = order.to(offers.device, non_blocking=True)
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
