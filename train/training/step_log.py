"""The values of training steps: means for the log, and the count of skipped steps."""

import json

from torch import Tensor

from shards.files import write_atomically
from train.errors import TrainError
from train.optim.objective import Objective
from train.runs.status import EPOCHS
from train.training.batches import BatchFeed
from train.training.context import Context
from train.training.data_sets import epochs_of
from train.training.meter import Meter


class StepLog:
    """Collects the values of steps on the device; only `read` and `check_skips` wait for the device."""

    def __init__(self, context: Context, objective: Objective, meter: Meter, batches: BatchFeed) -> None:
        self._context, self._objective, self._meter, self._batches = context, objective, meter, batches

    def add(self, norm: Tensor) -> None:
        """Adds a step's gradient norm, and counts the step if it was skipped.

        The norm and the guard's decision are the same on all processes, and so is the count.
        """
        learner = self._context.learner
        exploded, skipped = learner.strategy.gradient_guard.exploded, learner.strategy.skipped
        learner.skipped_in_a_row = (learner.skipped_in_a_row + 1) * skipped
        values = {"optim/gradient_norm": norm, "optim/skipped": skipped.float(), "optim/exploded": exploded.float()}
        self._meter.add(values, 1.0 / self._context.engine.world)

    def read(self) -> dict[str, float]:
        """Means over the steps since the last call, by their names in the log. Every process must call it."""
        config, engine, learner = self._context.config, self._context.engine, self._context.learner
        values = self._meter.read(engine, config.data.batch)
        values |= learner.device_use.read(values["perf/chunks_per_second"])
        values["optim/learning_rate"] = learner.strategy.rate
        values |= learner.adversary.values(learner.step - 1)
        values["data/damaged_chunks"] = engine.sum({"damaged": self._batches.damaged})["damaged"].item()
        values["samples_seen"] = learner.step * config.data.batch
        epochs = epochs_of(self._context.train_split, learner)
        values |= {f"{EPOCHS}{name}": count for name, count in epochs.items()}
        weights = self._objective.weights_at(learner.step - 1)
        return values | {f"weight/{name}": weight for name, weight in weights.items() if name.startswith("kl")}

    def check_skips(self) -> None:
        """Ends a run that only skips steps, in this attempt and the ones before.

        Raises:
            TrainError: on all processes, after optim.skip_limit skipped steps in a row. Each process writes the
                names of its last chunks to a file in the run folder.
        """
        learner = self._context.learner
        step, skipped = learner.step, int(learner.skipped_in_a_row.item())
        if skipped < self._context.config.optim.skip_limit:
            return
        file = self._context.run.path / f"skipped-step-{step}-rank-{self._context.engine.rank}.json"
        write_atomically(file, json.dumps({"step": step, "chunks": self._batches.names()}, indent=1) + "\n")
        raise TrainError(
            f"{skipped} steps in a row had values that are not finite, or gradients that exploded (step {step}); "
            f"lower optim.lr, or look at the chunks named in {file}"
        )
