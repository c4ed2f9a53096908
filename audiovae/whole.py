"""Whole recordings of any length: overlapping chunks, cross-faded."""

import math

import torch
from torch import Tensor

from audiovae.autoencoder import Autoencoder

# The level that shards are normalised to: the model sees what it was trained on.
PEAK = 0.95


def reconstruct_recording(model: Autoencoder, audio: Tensor, overlap: float = 0.25, batch: int = 16) -> Tensor:
    """Passes a recording through the model.

    Args:
        model: In evaluation mode.
        audio: [T] float in [-1, 1] at the model's rate, T at least 1.
        overlap: Share of a chunk that neighbours share and cross-fade over, in [0, 0.5].
        batch: Chunks at a time.

    Returns:
        [T] float32 at the input's level.
    """
    device = next(model.parameters()).device
    size = model.samples
    fade = int(size * overlap)
    hop = size - fade
    count = max(1, math.ceil((len(audio) - fade) / hop))
    gain = PEAK / audio.abs().max().clamp_min(1e-4).item()
    padded = torch.nn.functional.pad(audio.float() * gain, (0, (count - 1) * hop + size - len(audio)))
    chunks = padded.unfold(0, size, hop).unsqueeze(1)  # [count, 1, size]
    # Raised-cosine edges; they are divided out again, so that fades always add up to one.
    ramp = torch.sin(torch.linspace(0, math.pi / 2, fade + 2)[1:-1]).square()
    window = torch.cat([ramp, torch.ones(size - 2 * fade), ramp.flip(0)])
    total, weight = torch.zeros_like(padded), torch.zeros_like(padded)
    for first in range(0, count, batch):
        output = model.reconstruct(chunks[first : first + batch].to(device)).squeeze(1).float().cpu()
        for i, chunk in enumerate(output, start=first):
            total[i * hop : i * hop + size] += window * chunk
            weight[i * hop : i * hop + size] += window
    return (total / weight)[: len(audio)] / gain
