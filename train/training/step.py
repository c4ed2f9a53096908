"""One optimizer step on one global batch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from audiovae import ModelError, Noise, Output, Statistics
from audiovae.trainable import Trainable
from shards import Batch
from train.config import RunConfig
from train.errors import TrainError
from train.evaluation.measuring.heldout import to_audio
from train.optim.objective import Objective
from train.parallel.engine import Engine
from train.training.learner import Learner
from train.training.meter import Meter

# Makes audio [m, A, T] in [-1, 1] of some rows of a batch on a device.
Prepare = Callable[[Batch, torch.device, slice], Tensor]


def whole_chunks(batch: Batch, device: torch.device, part: slice) -> Tensor:
    """The chunks as they are."""
    return to_audio(batch.on(device, part), device, batch.channels)


def train_step(
    config: RunConfig,
    engine: Engine,
    learner: Learner,
    objective: Objective,
    batch: Batch,
    meter: Meter,
    prepare: Prepare = whole_chunks,
) -> Tensor:
    """Updates model, averages and cursor with one global batch.

    Each item weighs 1 / data.batch in the gradient, whatever process and micro-batch it is in.

    Args:
        config: The run's settings.
        engine: The processes; all of them call this together.
        learner: What the step changes.
        objective: The weighted sum of the model's loss terms.
        batch: This process's rows of the global batch.
        meter: Takes losses and metrics.
        prepare: Makes what the model takes of the batch.

    Returns:
        The gradient's norm before clipping, the same on all processes: float scalar. A step whose norm is not
        finite, or refused by the gradient guard, is skipped: it counts, but weights, moments and the model's
        statistics stay as they are. So it is when the discriminator's norm is such.
    """
    rows, statistics = accumulate_gradients(config, engine, learner, objective, batch, meter, prepare)
    # Both players step, or neither does.
    norm = learner.strategy.step(config.optim.rate_at(learner.step), learner.adversary.clip())
    learner.adversary.update(learner.strategy.skipped)
    learner.step += 1
    statistics = engine.join(statistics, rows, config.data.batch)
    learner.model.update(nan_where_skipped(statistics, learner.strategy.skipped), learner.step)
    learner.strategy.update_average(learner.step)
    learner.cursor = batch.next_cursor
    meter.steps += 1
    return norm


def accumulate_gradients(
    config: RunConfig,
    engine: Engine,
    learner: Learner,
    objective: Objective,
    batch: Batch,
    meter: Meter,
    prepare: Prepare,
) -> tuple[Tensor, Statistics]:
    """Forward and backward passes over this process's rows; returns these, on the device, and all items' statistics."""
    rows = batch.rows.to(engine.device, non_blocking=True)
    weights = objective.weights_at(learner.step)
    check_records(learner.model, batch.audio)
    parts = []
    for audio, part_rows, last in micro_batches(batch, rows, config.data.microbatch, prepare):
        share = len(part_rows) / config.data.batch
        noise = Noise(config.seed, learner.step, part_rows, config.data.batch)
        with learner.strategy.accumulating(last):
            target = learner.model.represent(audio)
            output: Output = learner.strategy.wrapped(target, noise)
            terms = learner.model.distances(output.recon, target) | output.losses
            opposition = learner.adversary.oppose(output.recon, target, learner.step, share, last)
            loss = (objective(terms, weights) + opposition.loss).mean()
            # The strategy divides by the number of processes; this undoes it.
            learner.strategy.backward(loss * share * engine.world)
        parts.append(output.statistics)
        meter.add({f"loss/{name}": term.mean() for name, term in (terms | opposition.terms).items()}, share)
        meter.add({f"adversarial/{name}": value for name, value in opposition.metrics.items()}, share)
        meter.add({f"model/{name}": value for name, value in output.metrics.items()}, share)
        meter.add({"loss/total": loss}, share)
    return rows, concatenated(parts)


def check_records(model: Trainable, numbers: Tensor) -> None:
    """Raises TrainError if the model cannot learn from records, int16 [n, samples] on the CPU."""
    try:
        model.check_records(numbers)
    except ModelError as error:
        raise TrainError(str(error)) from None


def micro_batches(batch: Batch, rows: Tensor, largest: int, prepare: Prepare) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Splits a process's share of a batch into micro-batches.

    Args:
        batch: This process's rows of the global batch.
        rows: [n] int64, their numbers in the global batch, on the device.
        largest: The most chunks of a micro-batch; 0 for one micro-batch.
        prepare: Makes audio of rows.

    Yields:
        Audio [m, A, T] in [-1, 1], rows [m], and whether this is the last micro-batch.
    """
    size = largest or len(rows)
    starts = range(0, len(rows), size)
    for start in starts:
        part = slice(start, start + size)
        yield prepare(batch, rows.device, part), rows[part], start == starts[-1]


def concatenated(parts: list[Statistics]) -> Statistics:
    """The statistics of several micro-batches as one: sums added, items concatenated."""
    sums = {name: torch.stack([part.sums[name] for part in parts]).sum(0) for name in parts[0].sums}
    items = {name: torch.cat([part.items[name] for part in parts]) for name in parts[0].items}
    return Statistics(sums, items)


def nan_where_skipped(statistics: Statistics, skipped: Tensor) -> Statistics:
    """The statistics, with NaN for all sums if `skipped`, a bool scalar: models ignore sums that are not finite."""
    return Statistics(
        {name: value.float().masked_fill(skipped, torch.nan) for name, value in statistics.sums.items()},
        statistics.items,
    )
