"""One attempt at a run: opens the data and the folder, resumes or starts, trains, and notes how it ended."""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from audiovae.layers.trunk import LengthError
from audiovae.models.lengths import nearest_lengths
from audiovae.models.settings import from_dict
from audiovae.saved.kinds import build_any
from audiovae.trainable import Trainable
from shards import DataError, Split
from shards.files import remove_file
from shards.presets import fitting_presets
from shards.reading.windows import windows_of
from shards.text import printable
from train.augment.preparation import check_channels
from train.config import RunConfig
from train.errors import LostPeerError, TrainError
from train.evaluation.measuring.heldout import spread_audio
from train.optim.snapshot import Snapshot
from train.parallel.engine import Engine, lost_peers_reported
from train.parallel.sharing import shared_snapshot
from train.process.bus_errors import note_bus_errors
from train.process.output_streams import write_stderr
from train.process.phases import phase
from train.process.stop_requests import FINISHED, StopRequest
from train.runs import checkpoint
from train.runs.async_save import Saver
from train.runs.checkpoint import Retention
from train.runs.forecast import rate_jump
from train.runs.run_folder import RunDir
from train.tracking.tracker import CLOSE_S, Tracker
from train.tracking.wandb_environment import identity
from train.training.companion import keep_autoencoder
from train.training.context import Context
from train.training.data_sets import mix_sets, open_splits
from train.training.held_out.extra import check_measures
from train.training.learner import make_learner, make_objective
from train.training.loop import training_loop
from train.training.preflight.check import preflight
from train.training.start_weights import check_codebooks, first_discriminator, start_from

# Training chunks from which a representation computes its statistics.
CALIBRATION_CHUNKS = 512
# Seconds that W&B has for the last points after a signal: launchers kill their processes 30 s after it.
CLOSE_STOPPED_S = 5.0


def watch_for_stop(config: RunConfig, is_main: bool) -> StopRequest:
    """Begins to answer stop requests, before the processes of the run meet."""

    def end(reason: str) -> None:
        """Records nothing, as there is no attempt yet."""
        if is_main:
            if reason == "STOP":
                remove_file(config.run_dir / "STOP")
            write_stderr(f"stopped ({reason}) before training began; run the same command to train")

    stop = StopRequest(config.run_dir / "STOP", is_main)
    stop.nothing_unsaved(end)
    return stop


def run_training(config: RunConfig, family: str, engine: Engine, stop: StopRequest) -> int:
    """Runs one attempt from opening the data to the last step; returns the exit code."""
    stop.notice = engine.notice
    try:
        with lost_peers_reported(), ExitStack() as opened:
            with phase("opening the data", engine.is_main):
                splits = opened.enter_context(open_splits(config.data, engine))
            code = _run(config, family, engine, stop, *splits)
            engine.wait_for_all()
            return code
    except LostPeerError:
        stop.explains_loss()
        raise


def _run(
    config: RunConfig,
    family: str,
    engine: Engine,
    stop: StopRequest,
    train_split: Split,
    valid_split: Split | None,
) -> int:
    train_split.check_batch(config.data.batch, engine.world)
    windows = cropped(config, train_split)
    valid_split = None if valid_split is None else windows_of(valid_split, config.data.crop)
    check_measures(config, valid_split)
    model = build_model(config, family, windows)
    run = engine.on_main(
        lambda: RunDir.create_or_resume(config, family, train_split.fingerprint, *identity(config.tracking))
    )
    if run.is_over(config):
        if engine.is_main:
            print(printable(finished_message(run, config)))
        return FINISHED
    engine.on_main(lambda: keep_autoencoder(run.path, config.data.path, train_split))
    calibrated = start_from(config, model, run, engine)
    with phase("verifying and reading the newest checkpoint", engine.is_main):
        saved = newest_state(run, engine, model)
    step = saved.state["step"] if saved else 0
    learner = make_learner(
        config, model.to(engine.device), engine, step, first_discriminator(config, run, step, engine)
    )
    if saved:
        try:
            learner.restore(saved)
        except TrainError as error:
            raise TrainError(f"{run.path}: {error}") from None
    if learner.step > config.optim.steps:
        raise TrainError(
            f"{run.path}: the run is at step {learner.step:,}, and optim.steps is {config.optim.steps:,}; "
            f"set it to {learner.step:,} or more, or choose another --run-dir"
        )
    check_codebooks(config, model)
    mix_sets(config, train_split, run, learner)
    context = Context(config, engine, run, train_split, valid_split, learner, stop)
    stop.nothing_unsaved(lambda reason: _end_before_training(context, reason))
    if learner.step == 0 and not calibrated:  # a checkpoint brings the calibration with it
        with phase("calibrating the model on training chunks", engine.is_main):
            engine.on_main(lambda: model.calibrate(spread_audio(windows, CALIBRATION_CHUNKS, engine.device)))
            _share_calibration(model, engine)
    with phase("preflight: checking processes, data and disk", engine.is_main):
        wandb_mode = preflight(context)
    return _train(context, wandb_mode)


def finished_message(run: RunDir, config: RunConfig) -> str:
    """That there is nothing left to train, and why."""
    see = f"see it with: {config.next_command.format(run.path)}"
    done = run.done
    if done is None or done.step >= config.optim.steps:
        return f"{run.path}: finished already; {see}"
    return (
        f"{run.path}: finished already, early at step {done.step:,}: {done.early}; {see}; to train on, pass another "
        "--until with --allow_changes true"
    )


def _share_calibration(model: Trainable, engine: Engine) -> None:
    """Gives all processes the calibration of rank 0, which alone reads the chunks for it."""
    buffers = model.calibrated()
    for buffer, value in zip(buffers, engine.share([buffer.cpu().numpy() for buffer in buffers]), strict=True):
        buffer.copy_(torch.from_numpy(value))


def _end_before_training(context: Context, reason: str) -> None:
    """Records an attempt without a step after a stop request during the preflight check."""
    if context.engine.is_main:
        step = context.learner.step
        context.run.begin(context.engine.world, start_of(context))
        context.run.end(reason, step)
        write_stderr(f"stopped at step {step} ({reason}) before another step; run the same command to resume")


def start_of(context: Context) -> dict[str, Any]:
    """Where an attempt starts: step, place in the data, batch and seed, and the shares of several data sets."""
    config, learner = context.config, context.learner
    start = {"step": learner.step, **asdict(learner.cursor), "batch": config.data.batch, "seed": config.seed}
    return start | ({"mixture": learner.mixture.to_json()} if learner.mixture else {})


def cropped(config: RunConfig, split: Split) -> Split:
    """The windows of `data.crop` samples of a split's records; the split itself where that is 0.

    Raises:
        TrainError: when the records are shorter, or mono and `augment` changes stereo.
    """
    try:
        check_channels(config.augment, split)
    except DataError as error:
        raise TrainError(str(error)) from None
    if config.data.crop > split.samples:
        raise TrainError(
            f"data.crop is {config.data.crop:,} samples, and the chunks of {split.where} have {split.samples:,}: lower "
            f"it, or build the data again into another folder, with --samples {config.data.crop} or more"
        )
    return windows_of(split, config.data.crop)


def build_model(config: RunConfig, family: str, split: Split) -> Trainable:
    """The family's model for a split's chunks, with weights drawn from the run's seed.

    Raises:
        TrainError: when the model's settings do not fit together or do not fit the chunks.
    """
    torch.manual_seed(config.seed)
    try:
        settings = config.model_settings(split.manifest, split.where)
        from_dict(type(settings), asdict(settings))  # bounds that a saved model has to keep
        model = build_any(family, settings, split.samples, split.rate, split.channels)
    except LengthError as error:
        raise TrainError(f"model: {error}. {_lengths_that_fit(config, split)}") from None
    except ValueError as error:
        raise TrainError(f"model: {error}") from None
    model.level = split.manifest.level
    return model


def _lengths_that_fit(config: RunConfig, split: Split) -> str:
    """What to do about chunks of a length that the model cannot take."""
    near = nearest_lengths(config.model, split.samples)  # type: ignore[attr-defined]
    fitting = [name for name in fitting_presets(split.samples, split.rate) if "/" not in name]
    fit = f"The nearest lengths that fit are {' and '.join(f'{length:,}' for length in near)} samples"
    if config.data.crop:
        return f"{fit}: set data.crop to one of them"
    return f"{fit}: build the data again into another folder, with python -m shards build ... --samples {near[-1]}" + (
        f"; or use a preset that fits these chunks: {', '.join(fitting)}" if fitting else ""
    )


def newest_state(run: RunDir, engine: Engine, model: Trainable) -> Snapshot | None:
    """The state in the newest intact checkpoint, if there is one; rank 0 chooses and reads it for all processes.

    Raises:
        TrainError: when its weights are not those of the model.
    """
    found: list[Snapshot] = []

    def read() -> int:
        if chosen := checkpoint.newest_intact(run.path / "checkpoints"):
            found.append(checkpoint.load(chosen))
            _check_shapes(run, found[0].weights, model)
        return len(found)

    return shared_snapshot(engine, found[0] if found else None) if engine.on_main(read) else None


def _check_shapes(run: RunDir, weights: Mapping[str, Tensor], model: Trainable) -> None:
    """Raises TrainError when the chunks make another model of the same settings, such as stereo ones after mono."""
    for name, value in model.state_dict().items():
        if name in weights and weights[name].shape != value.shape:
            shapes = f"{name} is {[*weights[name].shape]} there and {[*value.shape]} here"
            raise TrainError(
                f"{run.path}: the checkpoints have a model of chunks of another length or of other channels than those "
                f"of the data ({shapes}); resume with the data of the run, or choose another --run-dir"
            )


def _train(context: Context, wandb_mode: str) -> int:
    """Notes the attempt in the run folder, trains, and finishes saving and logging however training ends."""
    config, engine, run, learner = context.config, context.engine, context.run, context.learner
    keep = config.checkpoint
    before_phase = () if config.phase_start is None else (config.phase_start,)
    retention = Retention(keep.keep, keep.keep_best, keep.keep_every, before_phase, keep.best_by)
    context.stop.unsaved_work()  # the loop answers a stop request that comes while the attempt is recorded
    changes = engine.on_main(lambda: run.begin(engine.world, start_of(context)))
    if engine.is_main:  # the loss of another process is an exception here
        note_bus_errors(lambda reason: run.fail(reason, learner.step))
    for change in changes if engine.is_main else ():
        print(printable(f"settings change {change}"), flush=True)
    if engine.is_main and (line := rate_jump(config, changes, learner.step)):
        print(line, flush=True)
    saver = Saver(run.path / "checkpoints", learner.model, retention, run.record)
    tracker = None
    failed = True
    try:
        objective = make_objective(config, learner.model)
        if engine.is_main:
            tracker = Tracker(run, config.tracking, learner.step, wandb_mode, learner.unlogged is not None)
        with lost_peers_reported():
            code = training_loop(context, objective, tracker, saver)
        failed = False
        context.stop.closing(lambda reason: tracker.give_up() if tracker else None, code)
        learner.strategy.close()
        return code
    except Exception as error:
        if isinstance(error, LostPeerError):
            context.stop.explains_loss()
        context.stop.unsaved_work()  # if the process is ending for a stop request, that is noted and no failure
        if engine.is_main:
            with suppress(OSError):  # a full disk must not hide the error itself
                run.fail((str(error) or type(error).__name__).splitlines()[0], learner.step)
        raise
    finally:
        with suppress(TrainError):  # training has already failed with it, or with an error before it
            saver.finish()
        if tracker:
            with phase("W&B receives the last points; Ctrl-C leaves them to `python -m train sync`", tell=write_stderr):
                tracker.close(failed, CLOSE_STOPPED_S if context.stop.by_signal else CLOSE_S)
