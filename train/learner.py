"""What training changes, and one step of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from audiovae import Autoencoder, Noise, Output, Statistics
from shards import Batch, Cursor
from train.average import AveragedWeights
from train.checkpoint import Snapshot
from train.config import RunConfig
from train.engine import Engine
from train.heldout import to_audio
from train.meter import Meter
from train.objective import Objective
from train.schedules import learning_rate


@dataclass
class Learner:
    """All that training changes.

    Attributes:
        model: The bare model.
        wrapped: The model as the engine trains it.
        optimizer: As prepared by the engine.
        average: Averaged weights.
        step: Optimizer steps done.
        cursor: Where the next step begins in the data.
    """

    model: Autoencoder
    wrapped: torch.nn.Module
    optimizer: Any
    average: AveragedWeights
    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)

    def snapshot(self) -> Snapshot:
        """The state to save; no random state: noise and order are functions of seed and step."""
        state = {"step": self.step, "epoch": self.cursor.epoch, "consumed": self.cursor.consumed}
        weights = {name: value.detach() for name, value in self.model.state_dict().items()}
        return Snapshot(state, weights, self.average.state_dict(), self.optimizer.state_dict())

    def restore(self, snapshot: Snapshot) -> None:
        """Goes back to a saved state."""
        self.model.load_state_dict(snapshot.weights)
        self.average.load_state_dict(snapshot.average)
        now = [{key: group[key] for key in ("betas", "weight_decay")} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(snapshot.optimizer)
        for group, settings in zip(self.optimizer.param_groups, now, strict=True):
            group |= settings  # those of this attempt, where they were allowed to change
        self.step = snapshot.state["step"]
        self.cursor = Cursor(snapshot.state["epoch"], snapshot.state["consumed"])


def make_learner(config: RunConfig, model: Autoencoder, engine: Engine) -> Learner:
    """Model, optimizer and averages at step 0."""
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.optim.lr,
        betas=config.optim.betas,
        weight_decay=config.optim.weight_decay,
        fused=True,
    )
    wrapped, optimizer = engine.prepare(model, optimizer)
    return Learner(model, wrapped, optimizer, AveragedWeights(model, config.optim.ema))


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


def train_step(
    config: RunConfig, engine: Engine, learner: Learner, objective: Objective, batch: Batch, meter: Meter
) -> Tensor:
    """One optimizer step on one global batch; returns the gradient's norm, which may not be finite.

    Each item weighs 1 / batch in the gradient, on whatever process and in whatever micro-batch it is.
    """
    weights = objective.weights_at(learner.step)
    rate = learning_rate(
        learner.step, config.optim.lr, config.optim.warmup_steps, config.optim.steps, config.optim.final_lr
    )
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    parts = []
    device_rows = batch.rows.to(engine.device, non_blocking=True)
    for audio, rows, last in micro_batches(batch, device_rows, config.data.microbatch):
        share = len(rows) / config.data.batch
        with engine.accumulating(learner.wrapped, last):
            target = learner.model.represent(audio)
            output: Output = learner.wrapped(target, Noise(config.seed, learner.step, rows, config.data.batch))
            terms = learner.model.distances(output.recon, target) | output.losses
            loss = objective(terms, weights).mean()
            # The wrapper divides by the number of processes; this undoes it.
            engine.backward(loss * share * engine.world)
        parts.append(output.statistics)
        meter.add({f"loss/{name}": term.mean() for name, term in terms.items()}, share)
        meter.add({f"model/{name}": value for name, value in output.metrics.items()}, share)
        meter.add({"loss/total": loss}, share)
    norm = engine.clip(learner.wrapped, config.optim.clip)
    engine.step(learner.optimizer, norm)
    learner.step += 1
    statistics = engine.join(joined(parts), device_rows, config.data.batch)
    learner.model.update(statistics, learner.step)
    learner.average.update(learner.step)
    learner.cursor = batch.next_cursor
    meter.steps += 1
    return norm
