"""What the parts of one attempt share."""

from dataclasses import dataclass

from shards import Split
from train.config import RunConfig
from train.parallel.engine import Engine
from train.process.stop_requests import StopRequest
from train.runs.run_folder import RunDir
from train.training.learner import Learner


@dataclass(frozen=True)
class Context:
    """One attempt at a run.

    Attributes:
        config: The run's settings.
        engine: The processes of the run.
        run: The run's folder.
        train_split: The training chunks.
        valid_split: The held-out chunks; None if the shards have none.
        learner: Model, optimizer, averaged weights, step and data cursor.
        stop: Whether the attempt was asked to stop.
    """

    config: RunConfig
    engine: Engine
    run: RunDir
    train_split: Split
    valid_split: Split | None
    learner: Learner
    stop: StopRequest
