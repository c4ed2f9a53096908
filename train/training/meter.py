"""Means of training values between two points of the log, summed on the device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from train.parallel.engine import Engine


class Meter:
    """Sums values of each step without waiting for the device; `read` gives means over all processes.

    It also times what keeps training from computing: waiting for data, evaluation, saving.

    Attributes:
        steps: Optimizer steps in this interval; `train_step` counts them.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.steps = 0
        self._sums: dict[str, Tensor] = {}  # by name [2]: weighted sum of finite values, sum of their weights
        self._waited_s = self._longest_save_s = 0.0
        self._began = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wraps waiting for data, for `perf/data_wait_share`."""
        began = time.monotonic()
        yield
        self._waited_s += time.monotonic() - began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Wraps what is not training (evaluation, saving): its time does not count in the rate."""
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Wraps the part of a save that training waits for; `perf/save_stall` is the longest of the interval."""
        began = time.monotonic()
        with self.paused():
            yield
        self._longest_save_s = max(self._longest_save_s, time.monotonic() - began)

    def add(self, values: dict[str, Tensor], share: float) -> None:
        """Adds scalars of one micro-batch, weighted by its share of the global batch; leaves out non-finite ones."""
        for name, value in values.items():
            value = value.detach().float()
            finite = value.isfinite()
            pair = torch.stack([torch.where(finite, value, 0.0), finite.float()]) * share
            self._sums[name] = self._sums.get(name, 0.0) + pair

    def read(self, engine: Engine, batch: int) -> dict[str, float]:
        """Returns means over the interval's steps and the rate, and begins a new interval.

        Every process must call it, with the same names added; they get the same means.

        Args:
            engine: The processes to sum over.
            batch: Chunks of a step, over all processes.
        """
        names = sorted(self._sums)
        stacked = torch.stack([self._sums[name] for name in names])
        totals = engine.sum({"all": stacked})["all"].tolist()
        seconds = time.monotonic() - self._began
        result = {name: total / weight for name, (total, weight) in zip(names, totals, strict=True) if weight}
        result["perf/chunks_per_second"] = self.steps * batch / seconds
        result["perf/data_wait_share"] = self._waited_s / seconds
        if self._longest_save_s:
            result["perf/save_stall"] = self._longest_save_s
        self._reset()
        return result
