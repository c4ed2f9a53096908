"""Chunks of a split as audio, and a model's mean measures on them."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, Noise
from shards import DataError, Split
from train.evaluation.measuring.metrics import MEASURED, SHARES, means, measure, sums_and_counts
from train.parallel.engine import Engine

AT_A_TIME = 32


def to_audio(samples: Tensor, device: torch.device) -> Tensor:
    """int16 [n, T] -> float32 [n, 1, T] in [-1, 1) on the device."""
    return samples.to(device, non_blocking=True).unsqueeze(1).float().div_(32768.0)


def spread(count: int, limit: int) -> np.ndarray:
    """Up to `limit` positions spread evenly over `count` (all positions if limit is 0): int64."""
    taken = min(count, limit) if limit else count
    return np.arange(taken, dtype=np.int64) * count // max(1, taken)


def spread_audio(split: Split, limit: int, device: torch.device) -> Iterator[Tensor]:
    """Yields audio [1, 1, T] of up to `limit` evenly spread chunks, the same on every process; skips damaged chunks."""
    for chunk in spread(len(split), limit):
        with suppress(DataError):
            yield to_audio(split.read(np.array([chunk])), device)


def measure_split(model: Autoencoder, split: Split, limit: int, engine: Engine) -> dict[str, float]:
    """Mean measures over the chunks of a split, the same on every process; each chunk counts once.

    Silent chunks, and chunks whose output is not finite, count only in `silent` and `not_finite`.
    """
    return means(engine.sum(measure_share(model, split, limit, engine)))


@torch.no_grad()
def measure_share(
    model: Autoencoder, split: Split, limit: int, engine: Engine, heartbeat: Callable[[], None] = lambda: None
) -> dict[str, Tensor]:
    """This process's part of `measure_split`, without the other processes: sums and counts [2] by measure.

    There is one more, `power`: the mean square of the chunks that count in `mse`.
    `heartbeat` is called after each batch as a sign of progress.
    """
    chunks = spread(len(split), limit)[engine.rank :: engine.world]
    zero = torch.zeros(2, device=engine.device)
    total = {name: zero.clone() for name in (*MEASURED, "power")}
    for first in range(0, len(chunks), AT_A_TIME):
        audio = to_audio(split.read(chunks[first : first + AT_A_TIME]), engine.device)
        with engine.autocast():
            output = model.reconstruct(audio)
        found = measure(output, audio, model.rate)
        found["power"] = torch.where(found["mse"].isnan(), torch.nan, audio.square().mean((1, 2)))
        not_silent = torch.where(found["silent"] > 0, torch.nan, 0.0)
        found |= {name: value + not_silent for name, value in found.items() if name not in SHARES}
        for name, value in sums_and_counts(found).items():
            total[name] += value
        heartbeat()
    return total


def noise_at(first: int, audio: Tensor) -> Noise:
    """Reproducible noise for the chunks of a split from position `first` on: audio [n, 1, T]."""
    return Noise(0, first, torch.arange(len(audio), device=audio.device), len(audio))
