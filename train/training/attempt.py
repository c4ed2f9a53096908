"""One attempt at a run: opens the data and the folder, resumes or starts, trains, and notes how it ended."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from typing import Any

import torch

import audiovae
from shards import Split
from train.config import DataConfig, RunConfig
from train.errors import TrainError
from train.evaluation.measuring.heldout import spread_audio
from train.parallel.engine import Engine, lost_peers_reported
from train.process.stop_requests import FINISHED
from train.runs import checkpoint
from train.runs.run_folder import RunDir
from train.training.learner import Learner, make_learner
from train.training.loop import Training
from train.training.preflight import preflight

# Training chunks that a representation takes its statistics from.
CALIBRATION_CHUNKS = 512


def resume(learner: Learner, run: RunDir, engine: Engine) -> None:
    """Puts the learner where the newest sound checkpoint left off; all processes take rank 0's choice."""
    chosen = engine.on_main(lambda: checkpoint.newest_intact(run.path / "checkpoints"))
    if chosen is not None:
        learner.restore(checkpoint.load(chosen))


def run_training(config: RunConfig, family: str, engine: Engine) -> int:
    """A whole attempt: opens the data and the run, resumes or starts, trains; returns the exit code."""
    with lost_peers_reported(), open_splits(config.data) as splits:
        code = _run(config, family, engine, splits)
        engine.wait_for_all()
        return code


def _run(config: RunConfig, family: str, engine: Engine, splits: tuple[Split, Split | None]) -> int:
    splits[0].check_batch(config.data.batch, engine.world)
    torch.manual_seed(config.seed)
    try:
        model = audiovae.build(family, config.model, splits[0].samples, splits[0].rate)  # type: ignore[attr-defined]
    except ValueError as error:
        raise TrainError(f"model: {error}") from None
    model.level = splits[0].manifest.level
    run = engine.on_main(lambda: RunDir.create_or_resume(config, family, splits[0].fingerprint))
    if (run.finished_at or 0) >= config.optim.steps:
        if engine.is_main:
            print(f"{run.path}: finished already; see it with: python -m train evaluate {run.path}")
        return FINISHED
    learner = make_learner(config, model.to(engine.device), engine)
    resume(learner, run, engine)
    if learner.step == 0:  # what a resumed run was calibrated to came with its checkpoint
        model.calibrate(spread_audio(splits[0], CALIBRATION_CHUNKS, engine.device))
    preflight(config, engine, run, splits, learner)
    training = None
    failed = True
    try:
        place = {"step": learner.step, **asdict(learner.cursor), "batch": config.data.batch, "seed": config.seed}
        engine.on_main(lambda: run.begin(engine.world, place))
        training = Training(config, engine, run, splits, learner)
        with lost_peers_reported():
            code = training.go()
        failed = False
        learner.strategy.close()
        return code
    except Exception as error:
        if engine.is_main:
            with suppress(OSError):  # a full disk must not hide the error itself
                run.fail((str(error) or type(error).__name__).splitlines()[0], learner.step)
        raise
    finally:
        if training:
            training.close(failed)


@contextmanager
def open_splits(data: DataConfig) -> Iterator[tuple[Split, Split | None]]:
    """The training chunks, and the held-out ones if there are any."""
    more: dict[str, Any] = {"scratch": data.scratch, "scratch_bytes": int(data.scratch_gb * 1e9)}
    with ExitStack() as opened:
        train = opened.enter_context(closing(Split.open(data.path, "train", **more)))
        valid = None
        if train.manifest.splits.get("valid"):
            valid = opened.enter_context(closing(Split.open(data.path, "valid", **more)))
        yield train, valid
