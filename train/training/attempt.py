"""One attempt at a run: opens the data and the folder, resumes or starts, trains, and notes how it ended."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from typing import Any

import torch

import audiovae
from audiovae import Autoencoder
from shards import Split
from shards.text import printable
from train.config import DataConfig, RunConfig
from train.errors import TrainError
from train.evaluation.measuring.heldout import spread_audio
from train.parallel.engine import Engine, lost_peers_reported
from train.process.bus_errors import note_bus_errors
from train.process.stop_requests import FINISHED
from train.runs import checkpoint
from train.runs.async_save import Saver
from train.runs.checkpoint import Retention
from train.runs.run_folder import RunDir
from train.tracking.tracker import Tracker
from train.training.context import Context
from train.training.learner import Learner, make_learner, make_objective
from train.training.loop import training_loop
from train.training.preflight.check import preflight

# Training chunks from which a representation computes its statistics.
CALIBRATION_CHUNKS = 512


def run_training(config: RunConfig, family: str, engine: Engine) -> int:
    """Runs one attempt from opening the data to the last step; returns the exit code."""
    with lost_peers_reported(), open_splits(config.data) as splits:
        code = _run(config, family, engine, *splits)
        engine.wait_for_all()
        return code


def _run(config: RunConfig, family: str, engine: Engine, train_split: Split, valid_split: Split | None) -> int:
    train_split.check_batch(config.data.batch, engine.world)
    model = build_model(config, family, train_split)
    run = engine.on_main(lambda: RunDir.create_or_resume(config, family, train_split.fingerprint))
    if (run.finished_at or 0) >= config.optim.steps:
        if engine.is_main:
            print(printable(f"{run.path}: finished already; see it with: python -m train evaluate {run.path}"))
        return FINISHED
    learner = make_learner(config, model.to(engine.device), engine)
    resume(learner, run, engine)
    if learner.step > config.optim.steps:
        raise TrainError(
            f"{run.path}: the run is at step {learner.step:,}, and optim.steps is {config.optim.steps:,}; "
            f"set it to {learner.step:,} or more, or choose another --run-dir"
        )
    if learner.step == 0:  # a checkpoint brings the calibration with it
        model.calibrate(spread_audio(train_split, CALIBRATION_CHUNKS, engine.device))
    context = Context(config, engine, run, train_split, valid_split, learner)
    wandb_mode = preflight(context)
    return _train(context, wandb_mode)


def build_model(config: RunConfig, family: str, split: Split) -> Autoencoder:
    """The family's model for a split's chunks, with weights drawn from the run's seed.

    Raises:
        TrainError: when the model's settings do not fit together or do not fit the chunks.
    """
    torch.manual_seed(config.seed)
    try:
        model = audiovae.build(family, config.model, split.samples, split.rate)  # type: ignore[attr-defined]
    except ValueError as error:
        raise TrainError(f"model: {error}") from None
    model.level = split.manifest.level
    return model


def resume(learner: Learner, run: RunDir, engine: Engine) -> None:
    """Restores the newest intact checkpoint, if there is one; rank 0 chooses it for all processes."""
    chosen = engine.on_main(lambda: checkpoint.newest_intact(run.path / "checkpoints"))
    if chosen is not None:
        learner.restore(checkpoint.load(chosen))


def _train(context: Context, wandb_mode: str) -> int:
    """Notes the attempt in the run folder, trains, and finishes saving and logging however training ends."""
    config, engine, run, learner = context.config, context.engine, context.run, context.learner
    keep = config.checkpoint
    retention = Retention(keep.keep, keep.keep_best, keep.keep_every)
    start = {"step": learner.step, **asdict(learner.cursor), "batch": config.data.batch, "seed": config.seed}
    changes = engine.on_main(lambda: run.begin(engine.world, start))
    if engine.is_main:  # the loss of another process is an exception here
        note_bus_errors(lambda reason: run.fail(reason, learner.step))
    for change in changes if engine.is_main else ():
        print(printable(f"settings change {change}"), flush=True)
    saver = Saver(run.path / "checkpoints", learner.model, retention, run.record)
    tracker = None
    failed = True
    try:
        objective = make_objective(config, learner.model)
        if engine.is_main:
            tracker = Tracker(run, config.tracking, learner.step, wandb_mode)
        with lost_peers_reported():
            code = training_loop(context, objective, tracker, saver)
        failed = False
        learner.strategy.close()
        return code
    except Exception as error:
        if engine.is_main:
            with suppress(OSError):  # a full disk must not hide the error itself
                run.fail((str(error) or type(error).__name__).splitlines()[0], learner.step)
        raise
    finally:
        with suppress(TrainError):  # training has already failed with it, or with an error before it
            saver.finish()
        if tracker:
            tracker.close(failed)


@contextmanager
def open_splits(data: DataConfig) -> Iterator[tuple[Split, Split | None]]:
    """Opens the training chunks, and the held-out chunks if there are any."""
    more: dict[str, Any] = {"scratch": data.scratch, "scratch_bytes": int(data.scratch_gb * 1e9)}
    with ExitStack() as opened:
        train = opened.enter_context(closing(Split.open(data.path, "train", **more)))
        valid = None
        if train.manifest.splits.get("valid"):
            valid = opened.enter_context(closing(Split.open(data.path, "valid", **more)))
        yield train, valid
