"""Chunks of a split as audio, and a model's measures on them."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, Noise
from audiovae.gaussian import active_share
from shards import DataError, Split
from train.engine import Engine
from train.metrics import MEASURED, means, measure, sums_and_counts

AT_A_TIME = 32


def to_audio(samples: Tensor, device: torch.device) -> Tensor:
    """int16 [n, T] -> float32 [n, 1, T] in [-1, 1) on the device."""
    return samples.to(device, non_blocking=True).unsqueeze(1).float().div_(32768.0)


def spread(count: int, limit: int) -> np.ndarray:
    """`limit` positions spread evenly over `count` (all of them when limit is 0): int64."""
    taken = min(count, limit) if limit else count
    return np.arange(taken, dtype=np.int64) * count // max(1, taken)


def spread_audio(split: Split, limit: int, device: torch.device) -> Iterator[Tensor]:
    """Audio [n, 1, T] of up to `limit` chunks that are spread evenly, the same on every process; damaged ones not."""
    for chunk in spread(len(split), limit):
        with suppress(DataError):
            yield to_audio(split.read(np.array([chunk])), device)


@torch.no_grad()
def measure_split(
    model: Autoencoder, split: Split, limit: int, engine: Engine, beat: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Mean measures over a split's chunks, the same on every process, each chunk counted once.

    `beat` is called now and then, as a sign of progress.
    """
    chunks = spread(len(split), limit)[engine.rank :: engine.world]
    zero = torch.zeros(2, device=engine.device)
    total = {name: zero.clone() for name in MEASURED}
    for first in range(0, len(chunks), AT_A_TIME):
        audio = to_audio(split.read(chunks[first : first + AT_A_TIME]), engine.device)
        with engine.autocast():
            output = model.reconstruct(audio)
        for name, value in sums_and_counts(measure(output, audio, model.rate)).items():
            total[name] += value
        beat()
    return means(engine.sum(total))


@torch.no_grad()
def latent_use(model: Autoencoder, split: Split, limit: int = 512) -> list[dict[str, float]]:
    """How much of its latents a model uses, for each level of latents: posterior or codebook collapse shows here.

    Returns:
        A dict a level. Real latents: `active_units`, the share of channels that carry something about the
        input, and `kl_nats_per_second`, what the level says about it beyond its prior. Codes: for each codebook
        `codes_used`, a share, and `perplexity`, the effective number of codes.
    """
    chunks = spread(len(split), limit)
    device = next(model.parameters()).device
    parts, spent = [], []
    for first in range(0, len(chunks), AT_A_TIME):
        audio = to_audio(split.read(chunks[first : first + AT_A_TIME]), device)
        latents = model.encode(audio)
        parts.append(latents if isinstance(latents, list) else [latents])
        if parts[0][0].is_floating_point():
            output = model(model.represent(audio), noise_at(first, audio))
            nats = [value for name, value in output.metrics.items() if name.endswith("nats_per_second")]
            spent.append(torch.stack(nats).cpu() * len(audio))
    levels = [torch.cat(level).cpu() for level in zip(*parts, strict=True)]
    if levels[0].is_floating_point():
        nats = torch.stack(spent).sum(0) / len(chunks)
        return [
            {"active_units": active_share(level).item(), "kl_nats_per_second": spent.item()}
            for level, spent in zip(levels, nats, strict=True)
        ]
    size = model.config.quantizer.size
    rows = []
    for codes in levels[0].transpose(0, 1):
        share = torch.bincount(codes.flatten(), minlength=size) / codes.numel()
        entropy = -(share * share.clamp_min(1e-10).log()).sum()
        rows.append({"codes_used": (share > 0).float().mean().item(), "perplexity": entropy.exp().item()})
    return rows


@torch.no_grad()
def measure_levels(model: Autoencoder, split: Split, limit: int = 512) -> list[dict[str, Any]]:
    """What each level of latents is worth: measures of reconstructions for which only some levels knew the input.

    Returns:
        A dict for each set of levels: `known`, those from the posterior, 0 the finest, and means as in
        `measure_split`. Empty for models without levels.
    """
    chunks = spread(len(split), limit)
    device = next(model.parameters()).device
    sums: dict[tuple[int, ...], dict[str, Tensor]] = {}
    for first in range(0, len(chunks), AT_A_TIME):
        audio = to_audio(split.read(chunks[first : first + AT_A_TIME]), device)
        for partial in model.partial_reconstructions(audio, noise_at(first, audio)):
            total = sums.setdefault(tuple(partial.known), {})
            for name, value in sums_and_counts(measure(partial.audio, audio, split.rate)).items():
                total[name] = total.get(name, 0.0) + value
    return [{"known": list(known), **means(total)} for known, total in sums.items()]


def noise_at(first: int, audio: Tensor) -> Noise:
    """Draws for chunks of a split from position `first` on, the same each time: audio [n, 1, T]."""
    return Noise(0, first, torch.arange(len(audio), device=audio.device), len(audio))
