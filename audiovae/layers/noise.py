"""Random numbers that do not depend on how a batch is divided over processes."""

import torch
from torch import Tensor


class Noise:
    """Random numbers for the items of one micro-batch, a function of (seed, step, row in the global batch).

    Each call draws for the whole global batch from one generator and keeps the rows of this micro-batch. So an item
    gets the same noise on any number of processes and with any gradient accumulation. There is no generator state to
    save: a resumed run draws the same numbers as an uninterrupted one.
    """

    def __init__(self, seed: int, step: int, rows: Tensor, total: int) -> None:
        """Seeds the generator.

        Args:
            seed: Seed of the run.
            step: Optimizer step.
            rows: [n] int64, the rows of the micro-batch in the global batch; its device is that of the draws.
            total: Items of the global batch.
        """
        self.rows = rows
        self.total = total
        self.generator = torch.Generator(rows.device)
        # Odd multipliers keep neighbouring seeds and steps apart. manual_seed takes 63 bits.
        self.generator.manual_seed((seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03) % (1 << 63))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal values: [n, *shape] float32."""
        draw = torch.randn(self.total, *shape, generator=self.generator, device=self.rows.device)
        return draw[self.rows]

    def integers(self, below: int, *shape: int) -> Tensor:
        """Uniform integers in [0, below): [n, *shape] int64."""
        size = (self.total, *shape)
        return torch.randint(below, size, generator=self.generator, device=self.rows.device)[self.rows]


class NoiseOfItems(Noise):
    """Random numbers outside training: those of an item depend on the seed and its number alone."""

    def __init__(self, seed: int, items: Tensor, total: int) -> None:
        """Seeds the generators.

        Args:
            seed: The seed.
            items: [n] int64, the numbers of the items; its device is that of the draws.
            total: The number of all items.
        """
        row = torch.zeros(1, dtype=torch.int64, device=items.device)
        self.rows, self.total = items, total
        self._noises = [Noise(seed, item, row, 1) for item in items.tolist()]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal values: [n, *shape] float32."""
        return torch.cat([noise.normal(*shape) for noise in self._noises])

    def integers(self, below: int, *shape: int) -> Tensor:
        """Uniform integers in [0, below): [n, *shape] int64."""
        return torch.cat([noise.integers(below, *shape) for noise in self._noises])


def fresh_noise(items: int, device: torch.device) -> Noise:
    """Noise for `items` items outside training, seeded from torch's global generator."""
    seed = int(torch.randint(1 << 62, ()).item())
    return Noise(seed, 0, torch.arange(items, device=device), items)
