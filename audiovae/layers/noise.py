"""Random numbers that do not depend on how a batch is divided over processes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Shifts and factors that let every bit of a number depend on every other one (Steele, Lea and Flood 2014, "SplitMix").
MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
# Steps of random fractions; float32 holds a row of a batch and such a fraction.
FINE = 1 << 20


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
        self.generator = torch.Generator(rows.device).manual_seed(seed_of(seed, step))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal values: [n, *shape] float32."""
        draw = torch.randn(self.total, *shape, generator=self.generator, device=self.rows.device)
        return draw[self.rows]

    def integers(self, below: int, *shape: int) -> Tensor:
        """Uniform integers in [0, below): [n, *shape] int64."""
        size = (self.total, *shape)
        return torch.randint(below, size, generator=self.generator, device=self.rows.device)[self.rows]


class NoiseOfItems(Noise):
    """Random numbers outside training: each item has its own generator, so its numbers do not depend on the others.

    They are drawn on the CPU, so they are the same on any device.
    """

    def __init__(self, seeds: Sequence[int], rows: Tensor, total: int) -> None:
        """Seeds the generators.

        Args:
            seeds: The seed of each item, of 63 bits.
            rows: [n] int64, the numbers of the items among all; its device is that of the results.
            total: The number of all items.
        """
        self.rows, self.total = rows, total
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal values: [n, *shape] float32."""
        return self._stacked(lambda generator: torch.randn(shape, generator=generator))

    def integers(self, below: int, *shape: int) -> Tensor:
        """Uniform integers in [0, below): [n, *shape] int64."""
        return self._stacked(lambda generator: torch.randint(below, shape, generator=generator))

    def _stacked(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([draw(generator) for generator in self._generators]).to(self.rows.device)


def fractions(noise: Noise, count: int) -> Tensor:
    """Random whole numbers in [0, FINE), [n, count] int64."""
    return noise.integers(FINE, count)


def seed_of(seed: int, step: int) -> int:
    """A seed of 63 bits, as a generator takes it. Odd multipliers keep neighbouring seeds and steps apart."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03) % (1 << 63)


def fresh_noise(items: int, device: torch.device) -> Noise:
    """Noise for `items` items outside training, seeded from torch's global generator."""
    seed = int(torch.randint(1 << 62, ()).item())
    return Noise(seed, 0, torch.arange(items, device=device), items)
