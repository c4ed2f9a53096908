"""Means of training values between two points of the log, summed on the device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from train.parallel.engine import Engine


class Meter:
    """Adds up values of each step without waiting for the device; `read` gives means over all processes."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Starts a new interval."""
        self.sums: dict[str, Tensor] = {}
        self.steps = 0
        self.waited = 0.0
        self.stall = 0.0  # seconds
        self.began = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is not training (evaluation, saving): it does not count in the rate."""
        began = time.monotonic()
        yield
        self.began += time.monotonic() - began

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around what a checkpoint keeps the training from; `perf/save_stall` is the longest of the interval."""
        began = time.monotonic()
        with self.paused():
            yield
        self.stall = max(self.stall, time.monotonic() - began)

    def add(self, values: dict[str, Tensor], share: float) -> None:
        """Values of one micro-batch, weighted by its share of the global batch; what is not finite is left out."""
        for name, value in values.items():
            value = value.detach().float()
            finite = value.isfinite()
            pair = torch.stack([torch.where(finite, value, 0.0), finite.float()]) * share
            self.sums[name] = self.sums.get(name, 0.0) + pair

    def read(self, engine: Engine, batch: int) -> dict[str, float]:
        """Means over the interval's steps, and the rate; begins a new interval."""
        names = sorted(self.sums)
        stacked = torch.stack([self.sums[name] for name in names])
        totals = engine.sum({"all": stacked})["all"].tolist()
        seconds = time.monotonic() - self.began
        result = {name: total / weight for name, (total, weight) in zip(names, totals, strict=True) if weight}
        result["perf/chunks_per_second"] = self.steps * batch / seconds
        result["perf/data_wait_share"] = self.waited / seconds
        if self.stall:
            result["perf/save_stall"] = self.stall
        self.reset()
        return result
