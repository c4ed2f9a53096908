"""Chunks of a split as audio, and a model's measures on them."""

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder
from shards import Split
from train.engine import Engine
from train.metrics import means, measure, sums_and_counts

AT_A_TIME = 32


def to_audio(samples: Tensor, device: torch.device) -> Tensor:
    """int16 [n, T] -> float32 [n, 1, T] in [-1, 1) on the device."""
    return samples.to(device, non_blocking=True).unsqueeze(1).float().div_(32768.0)


def spread(count: int, limit: int) -> np.ndarray:
    """`limit` positions spread evenly over `count` (all of them when limit is 0): int64."""
    taken = min(count, limit) if limit else count
    return np.arange(taken, dtype=np.int64) * count // max(1, taken)


@torch.no_grad()
def measure_split(model: Autoencoder, split: Split, limit: int, engine: Engine) -> dict[str, float]:
    """Mean measures over a split's chunks, the same on every process, each chunk counted once."""
    chunks = spread(len(split), limit)[engine.rank :: engine.world]
    zero = torch.zeros(2, device=engine.device)
    total = {name: zero.clone() for name in ("mse", "cosine", "si_sdr", "stft", "silent")}
    for first in range(0, len(chunks), AT_A_TIME):
        audio = to_audio(split.read(chunks[first : first + AT_A_TIME]), engine.device)
        with engine.autocast():
            output = model.reconstruct(audio)
        for name, value in sums_and_counts(measure(output, audio)).items():
            total[name] += value
    return means(engine.sum(total))
