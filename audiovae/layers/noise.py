"""Random draws that do not depend on how a batch is spread over processes."""

import torch
from torch import Tensor


class Noise:
    """Draws for the items of one micro-batch, fixed by (seed, step, item's row in the global batch).

    Each call draws for the whole global batch from one generator and keeps this micro-batch's rows. So one
    process or many, and any gradient accumulation, see the same noise for the same item, and there is no
    generator state to save: a resumed run draws what it would have drawn.
    """

    def __init__(self, seed: int, step: int, rows: Tensor, total: int) -> None:
        """Draws for `rows` ([n] int64, each below `total`) of a global batch of `total` items."""
        self.rows = rows
        self.total = total
        self.generator = torch.Generator(rows.device)
        # Odd multipliers keep neighbouring seeds and steps apart; 63 bits are what manual_seed takes.
        self.generator.manual_seed((seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03) % (1 << 63))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal values: [n, *shape] float32."""
        draw = torch.randn(self.total, *shape, generator=self.generator, device=self.rows.device)
        return draw[self.rows]

    def integers(self, below: int, *shape: int) -> Tensor:
        """Uniform integers in [0, below): [n, *shape] int64."""
        size = (self.total, *shape)
        return torch.randint(below, size, generator=self.generator, device=self.rows.device)[self.rows]


def fresh_noise(items: int, device: torch.device) -> Noise:
    """Noise for a batch outside training, seeded from torch's global generator."""
    seed = int(torch.randint(1 << 62, ()).item())
    return Noise(seed, 0, torch.arange(items, device=device), items)
