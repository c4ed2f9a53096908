"""What training changes, and one step of it."""

import math
import os
import shutil
from collections.abc import Iterator

import torch
from torch import Tensor

from audiovae import Autoencoder, Noise, Output, Statistics
from shards import Batch, Cursor
from train.config import RunConfig
from train.errors import TrainError
from train.evaluation.measuring.heldout import to_audio
from train.optim.objective import Objective
from train.optim.schedules import learning_rate
from train.optim.snapshot import HostCopies, Snapshot, discard
from train.parallel.engine import Engine
from train.parallel.factory import make_strategy
from train.parallel.strategy import Strategy
from train.training.meter import Meter


class Learner:
    """All that training changes.

    Attributes:
        strategy: The model, its averages and its optimizer in all processes.
        step: Optimizer steps done.
        cursor: Where the next step begins in the data.
        valid_si_sdr: Held-out SI-SDR in dB, as last measured; None when it was not.
    """

    def __init__(self, strategy: Strategy, engine: Engine) -> None:
        self.strategy = strategy
        self.step = 0
        self.cursor = Cursor()
        self.valid_si_sdr: float | None = None
        self._main = engine.is_main
        self._copies = HostCopies()

    @property
    def model(self) -> Autoencoder:
        """The bare model."""
        return self.strategy.model

    def snapshot(self) -> Snapshot:
        """The state to save, on rank 0; every process calls it. Valid until the next one is taken."""
        snapshot = self.strategy.gather(self._copies.keep if self._main else discard)
        self._copies.wait()
        snapshot.state = {"step": self.step, "epoch": self.cursor.epoch, "consumed": self.cursor.consumed}
        if self.valid_si_sdr is not None:
            snapshot.state["valid_si_sdr"] = self.valid_si_sdr
        if self.strategy.gradient_guard.factor:
            # A float32 is the same after JSON.
            snapshot.state["gradient_norms"] = self.strategy.gradient_guard.state.tolist()
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Goes back to a saved state."""
        self.strategy.restore(snapshot)
        self.step = snapshot.state["step"]
        self.cursor = Cursor(snapshot.state["epoch"], snapshot.state["consumed"])
        self.valid_si_sdr = snapshot.state.get("valid_si_sdr")
        explosions = self.strategy.gradient_guard
        explosions.state = torch.tensor(
            snapshot.state.get("gradient_norms", [0.0, 0.0]), device=explosions.state.device
        )


def make_learner(config: RunConfig, model: Autoencoder, engine: Engine) -> Learner:
    """Model, optimizer and averages at step 0.

    Raises:
        TrainError: when DeepSpeed is asked for something that cannot be.
    """
    counted = passes(config.data.batch, engine.world, config.data.microbatch)
    if engine.launch.get("ACCELERATE_USE_DEEPSPEED") == "true" and len({*counted}) > 1:
        raise TrainError(
            f"data.batch {config.data.batch} over {engine.world} processes in parts of {config.data.microbatch}: "
            "some would make more passes than others, which DeepSpeed would wait for; "
            f"choose a data.batch that {engine.world} divides"
        )
    if config.compile:
        compile_passes(model, engine)
    return Learner(make_strategy(model, engine, config.optim), engine)


def compile_passes(model: Autoencoder, engine: Engine) -> None:
    """Compiles the model's training pass in place: names of weights stay, and what is not a training pass.

    Raises:
        TrainError: without a compiler, or with DeepSpeed, whose hooks on modules are not traced.
    """
    if engine.launch.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise TrainError("compile is not for runs with DeepSpeed: leave --compile or --use_deepspeed out")
    # Inductor writes C++ for the host; Triton, for GPUs, builds its launchers from C.
    needed = {"C++": ("CXX", "g++", "clang++")}
    if engine.device.type == "cuda":
        needed["C"] = ("CC", "gcc", "clang")
    for language, (variable, *usual) in needed.items():
        wanted = os.environ.get(variable) or usual[0]
        if not any(map(shutil.which, {wanted, *usual})):
            raise TrainError(
                f"compile needs a {language} compiler, and there is no {wanted}: install {usual[0]}, "
                "or leave --compile out"
            )
    model.compile()


def passes(batch: int, world: int, largest: int) -> list[int]:
    """Passes that each process makes in a step, in parts of at most `largest` chunks (0: one part)."""
    shares = [len(range(rank, batch, world)) for rank in range(world)]
    return [math.ceil(share / (largest or max(share, 1))) for share in shares]


def micro_batches(batch: Batch, rows: Tensor, largest: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Audio [n, 1, T], rows [n] and whether it is the last, for parts of at most `largest` chunks (0: one part).

    `rows` are the batch's rows on the device.
    """
    size = largest or len(rows)
    starts = range(0, len(rows), size)
    for start in starts:
        part = slice(start, start + size)
        yield to_audio(batch.on(rows.device, part), rows.device), rows[part], start == starts[-1]


def joined(parts: list[Statistics]) -> Statistics:
    """The statistics of several micro-batches as one."""
    sums = {name: torch.stack([part.sums[name] for part in parts]).sum(0) for name in parts[0].sums}
    items = {name: torch.cat([part.items[name] for part in parts]) for name in parts[0].items}
    return Statistics(sums, items)


def unless(skipped: Tensor, statistics: Statistics) -> Statistics:
    """The statistics, or where the step was skipped none that are finite: models take in nothing of those."""
    return Statistics(
        {name: value.float().masked_fill(skipped, torch.nan) for name, value in statistics.sums.items()},
        statistics.items,
    )


def train_step(
    config: RunConfig, engine: Engine, learner: Learner, objective: Objective, batch: Batch, meter: Meter
) -> Tensor:
    """One optimizer step on one global batch; returns the gradient's norm, which may not be finite.

    Each item weighs 1 / batch in the gradient, on whatever process and in whatever micro-batch it is.
    """
    weights = objective.weights_at(learner.step)
    optim = config.optim
    shape = optim.schedule, optim.decay_share
    rate = learning_rate(learner.step, optim.lr, optim.warmup_steps, optim.steps, optim.final_lr, *shape)
    parts = []
    device_rows = batch.rows.to(engine.device, non_blocking=True)
    for audio, rows, last in micro_batches(batch, device_rows, config.data.microbatch):
        share = len(rows) / config.data.batch
        with learner.strategy.accumulating(last):
            target = learner.model.represent(audio)
            output: Output = learner.strategy.wrapped(target, Noise(config.seed, learner.step, rows, config.data.batch))
            terms = learner.model.distances(output.recon, target) | output.losses
            loss = objective(terms, weights).mean()
            # The wrapper divides by the number of processes; this undoes it.
            learner.strategy.backward(loss * share * engine.world)
        parts.append(output.statistics)
        meter.add({f"loss/{name}": term.mean() for name, term in terms.items()}, share)
        meter.add({f"model/{name}": value for name, value in output.metrics.items()}, share)
        meter.add({"loss/total": loss}, share)
    norm = learner.strategy.step(rate)
    learner.step += 1
    statistics = engine.join(joined(parts), device_rows, config.data.batch)
    skipped = learner.strategy.gradient_guard.exploded | ~norm.isfinite()
    learner.model.update(unless(skipped, statistics), learner.step)
    learner.strategy.update_average(learner.step)
    learner.cursor = batch.next_cursor
    meter.steps += 1
    return norm
