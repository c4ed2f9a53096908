"""A training of one family in this process, made of the product's own parts, in one precision."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor

from benchmarks.gpu.job import Job
from shards import Batch, BatchStream, Cursor, Split
from train.cli.parser import parse
from train.config import RunConfig
from train.parallel.engine import Engine
from train.training.attempt import build_model
from train.training.learner import compile_passes, make_learner, make_objective
from train.training.meter import Meter
from train.training.step import train_step

# By name: whether float32 products may be computed in TF32, and the precision of autocast.
MODES = {"fp32": (False, "no"), "TF32": (True, "no"), "bf16": (True, "bf16")}
QUICK_BATCH = 4
LEAST_STEPS = 3


def make_engine(mode: str) -> Engine:
    """The engine of a mode. It replaces that of the mode before; only one may be in use."""
    tf32, precision = MODES[mode]
    os.environ["ACCELERATE_MIXED_PRECISION"] = precision
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    engine = Engine()
    if engine.device.type == "cpu":
        torch.set_num_threads(1)  # tiny models are slower on several, above all beside other programs
    if engine.precision != precision:
        raise RuntimeError(f"the engine computes in {engine.precision}, not {precision}")
    return engine


def settings(job: Job, family: str, data: Path | str, run: Path, *words: str, tiny_preset: bool = False) -> RunConfig:
    """A family's default settings, or those of its tiny preset; with `job.quick` at tiny widths.

    Args:
        job: Says whether it is quick.
        family: The family.
        data: The shards.
        run: The run folder.
        words: More flags; they override all others.
        tiny_preset: Whether to take the preset made for CPUs.
    """
    return parse(words_of(job, family, data, run, *words, tiny_preset=tiny_preset))[1]


def preset_of(family: str, tiny_preset: bool) -> str:
    """The file of a family's default preset, or of that made for CPUs."""
    return f"train/configs/{family}{'_tiny' if tiny_preset else ''}.yaml"


def words_of(job: Job, family: str, data: Path | str, run: Path, *words: str, tiny_preset: bool = False) -> list[str]:
    """The same as arguments of `python -m train`."""
    result = [family, "--data", str(data), "--run-dir", str(run), "--tracking.wandb", "disabled"]
    result += ["--config", preset_of(family, tiny_preset)]
    if job.quick:
        result += _tiny_widths(parse(result)[1].model, tiny_preset)
    return [*result, *words]


def _tiny_widths(model: Any, tiny_preset: bool) -> list[str]:
    """Flags that make a model small and keep its depth of strides, so that every part of it still runs."""
    words = ["--data.batch", str(QUICK_BATCH), "--model.trunk.blocks", "1", "--model.trunk.kernel", "3"]
    if not tiny_preset:
        words += ["--model.trunk.channels", str([16] * len(model.trunk.channels))]
        if hasattr(model, "level_channels"):
            words += ["--model.level_channels", str([16] * len(model.level_channels))]
            words += ["--model.latents", str([16] * len(model.latents))]
        if hasattr(model, "quantizer"):
            words += ["--model.quantizer.size", "32", "--model.quantizer.codebooks", "2"]
    return words


def in_use(family: str) -> list[str]:
    """Flags with which all of a model computes from the first steps on: the codebooks start at once."""
    return ["--model.quantizer.start_step", "1"] if family == "vqvae" else []


class Trainer:
    """Model, optimizer and averages of one family, ready for steps.

    Args:
        engine: From `make_engine`.
        config: The run's settings.
        family: The family.
        split: The training chunks, for their length and rate.
        compiled: Whether to compile the model's pass.
        backend: What compiles it; empty for that of the training.
        step: The step that it is at, which decides whether the adversarial phase has begun.
    """

    def __init__(
        self,
        engine: Engine,
        config: RunConfig,
        family: str,
        split: Split,
        compiled: bool = False,
        backend: str = "",
        step: int = 0,
    ) -> None:
        self.engine, self.config = engine, config
        self.model = build_model(config, family, split).to(engine.device)
        if compiled and backend:
            self.model.compile(backend=backend)
        elif compiled:
            compile_passes(self.model, engine)
        self.learner = make_learner(config, self.model, engine, step)
        self.learner.step = step
        self.objective = make_objective(config, self.model)
        self.meter = Meter()
        self.learner.strategy.wrapped.train()

    def step(self, batch: Batch) -> Tensor:
        """One optimizer step, as the training loop makes it."""
        return train_step(self.config, self.engine, self.learner, self.objective, batch, self.meter)

    def with_batch(self, batch: int) -> None:
        """Makes the following steps of another size."""
        self.config = replace(self.config, data=replace(self.config.data, batch=batch))

    def loss(self) -> float:
        """The mean total loss since the last call."""
        return self.meter.read(self.engine, self.config.data.batch)["loss/total"]


def open_stream(trainer: Trainer, split: Split) -> BatchStream:
    """Batches of this process, as the training loop reads them."""
    engine, config = trainer.engine, trainer.config
    pinned = engine.device.type == "cuda"
    return BatchStream(split, config.data.batch, config.seed, engine.rank, engine.world, pin_memory=pinned)


def made_batch(split: Split, size: int, device: torch.device) -> Batch:
    """A batch of the split's first chunks, over and over; in pinned memory if it is for a GPU."""
    chunks = np.arange(size) % len(split)
    records = torch.from_numpy(split.raw(chunks)).view(torch.int16)
    rows = torch.arange(size)
    if device.type == "cuda":
        records, rows = records.pin_memory(), rows.pin_memory()
    return Batch(records, split.samples, rows, chunks, Cursor(), Cursor(), split.channels)


def wait(device: torch.device) -> None:
    """Waits until the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Timing:
    """Time of equal steps.

    Attributes:
        seconds: Of a step.
        waited: Share of the time in which the host waited for data.
        memory_gb: The most memory of the device that tensors took; None on a CPU.
    """

    def __init__(self, step: Callable[[Batch], object], batches: Iterable[Batch], device: torch.device) -> None:
        self._step, self._batches, self._device = step, iter(batches), device
        self.seconds = self.waited = 0.0
        self.memory_gb: float | None = None

    def run(self, seconds: float, warm: int) -> "Timing":
        """Makes `warm` steps, and then steps for so many seconds."""
        for _ in range(warm):
            self._step(next(self._batches))
        wait(self._device)
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
        count, waited, began = 0, 0.0, time.perf_counter()
        while count < LEAST_STEPS or time.perf_counter() - began < seconds:
            if keep_pace := getattr(self._batches, "keep_pace", None):
                keep_pace()
            asked = time.perf_counter()
            batch = next(self._batches)
            waited += time.perf_counter() - asked
            self._step(batch)
            count += 1
        wait(self._device)
        passed = time.perf_counter() - began
        self.seconds, self.waited = passed / count, waited / passed
        if on_gpu:
            self.memory_gb = torch.cuda.max_memory_allocated(self._device) / 1e9
        return self


def repeated(batch: Batch) -> Iterable[Batch]:
    """The same batch for ever."""
    while True:
        yield batch
