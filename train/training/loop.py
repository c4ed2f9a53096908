"""The training loop, the same for every family. Read it from top to bottom; each part has a file of its own."""

from contextlib import AbstractContextManager, nullcontext

from train.optim.objective import Objective
from train.process.console import Display
from train.process.live_view import RunInfo
from train.process.phases import phase
from train.process.watchdog import Watchdog, watchdog_limit
from train.runs.async_save import Saver
from train.tracking.tracker import Tracker
from train.training.batches import BatchFeed
from train.training.checkpointing import Checkpointer
from train.training.context import Context
from train.training.data_sets import sets_line
from train.training.ending import early_end, end_before_a_step, end_finished, end_stopped
from train.training.held_out.validation import Validation, note_losses
from train.training.learner import begin_phase
from train.training.meter import Meter
from train.training.performance.profiling import StepProfile
from train.training.step import train_step
from train.training.step_log import StepLog


def training_loop(context: Context, objective: Objective, tracker: Tracker | None, saver: Saver) -> int:
    """Trains until the last step, an early end or a stop request; returns the exit code.

    All processes run the same loop and reach its collectives in the same order.

    Args:
        context: The attempt; its learner is at the step to begin with.
        objective: The weighted sum of the model's loss terms.
        tracker: Takes the points of the log; None except on rank 0.
        saver: Writes checkpoints on rank 0.
    """
    config, engine, learner = context.config, context.engine, context.learner
    display = Display(run_info(context), learner.step, engine.is_main, lambda: saver.saved)
    stop_request, first = context.stop, learner.step
    meter = Meter()
    batches = BatchFeed(context, meter)
    watchdog = make_watchdog(context, batches)
    step_log = StepLog(context, objective, meter, batches)
    validation = Validation(context, tracker, meter, watchdog, display)
    checkpoints = Checkpointer(context, saver, meter, watchdog, display)
    profile = StepProfile(context.run.path, config.tracking.profile, engine, display.say, meter.paused)
    learner.strategy.wrapped.train()
    with batches, display, watchdog, profile:
        stop_request.tell = display.call
        stop_request.nothing_unsaved(lambda reason: end_before_a_step(context, tracker, display, reason))
        announce(context, display)
        if learner.unlogged is not None:  # of a new run, or of one that was stopped during an evaluation
            if (measured := validation.measure()) is None:
                stop_request.wait_for_end()
            log(tracker, learner.step, learner.unlogged | measured)
            learner.unlogged = None
            if learner.step:
                checkpoints.begin()  # replaces the one without the measures
        last = learner.step == config.optim.steps or bool(early_end(context))
        while not last:
            if learner.step == config.phase_start and learner.adversary.discriminator is None:
                checkpoints.settle()
                begin_phase(config, engine, learner)
                saver.model = learner.model
                display.say(f"step {learner.step}: {of_phase(context)}")
            with first_step(context, display) if learner.step == first else nullcontext(), profile.around(learner.step):
                norm = train_step(config, engine, learner, objective, next(batches), meter, batches.prepared)
            if learner.step == first + 1:
                stop_request.unsaved_work()
            watchdog.heartbeat()
            checkpoints.check()
            step_log.add(norm)
            batches.record_samples()
            batches.record_damage(display)
            display.step(learner.step, learner.cursor.epoch + learner.cursor.consumed / len(context.train_split))

            last = learner.step == config.optim.steps
            point: dict[str, float] = {}
            if last or learner.step % config.tracking.every == 0:
                point |= step_log.read()
                display.note(learner.step, point)
                step_log.check_skips()
                if context.valid_split is None:
                    note_losses(context, display, "loss/total" in point)
            due = last or learner.step % config.tracking.evaluate_every == 0 or learner.step == config.phase_start
            measured = validation.measure() if due else {}
            if measured is None:  # a stop request ended the evaluation; the attempt that resumes repeats it
                learner.unlogged = point
            else:
                log(tracker, learner.step, point | measured)
                last = last or bool(early_end(context))

            planned = f"stop_at {config.stop_at}" if learner.step == config.stop_at else ""
            stop = engine.any_wants_to_stop(stop_request()) or bool(planned)
            # The votes of several processes are counted one step later, so an evaluation may have ended without `stop`.
            ends = measured is None or (stop and not last)
            if ends or last or checkpoints.due():
                checkpoints.begin()
            if ends:
                return end_stopped(context, saver, stop_request.reason or planned, watchdog, display)
        return end_finished(context, saver, watchdog, display)


def log(tracker: Tracker | None, step: int, point: dict[str, float]) -> None:
    """Logs the values of a step, if there are any."""
    if tracker and point:
        tracker.log(step, point)


def first_step(context: Context, display: Display) -> AbstractContextManager[None]:
    """Says what the first step of an attempt does beside training."""
    what = "reading the first chunks" + (
        " and compiling the model; this takes minutes" if context.config.compile else ""
    )
    return phase(f"first step: {what}", context.engine.is_main, display.call)


def run_info(context: Context) -> RunInfo:
    """Title, steps, batch, chunk length, epoch and save interval for the display."""
    config, split, model = context.config, context.train_split, context.learner.model
    title = f"{model.family} {context.run.name}"
    seconds = model.samples / model.rate
    return RunInfo(title, config.optim.steps, config.data.batch, seconds, len(split), config.checkpoint.every)


def make_watchdog(context: Context, batches: BatchFeed) -> Watchdog:
    """A watchdog that writes stacks and the last batch to the run folder; rank 0 notes the failure there too."""
    config, engine, run = context.config, context.engine, context.run
    return Watchdog(
        watchdog_limit(config.watchdog_s, config.compile),
        run.path / f"hang-rank-{engine.rank}.txt",
        batches.report,
        lambda what: run.fail(what, context.learner.step) if engine.is_main else None,
    )


def of_phase(context: Context) -> str:
    """What the adversarial phase trains, and for how long."""
    config, learner = context.config, context.learner
    discriminator = learner.adversary.discriminator
    count = sum(value.numel() for value in discriminator.parameters()) if discriminator else 0
    trained = learner.model.synthesis if config.adversarial.freeze else ("all",)
    return (
        f"the adversarial phase has begun and lasts until step {config.optim.steps:,}; discriminator: "
        f"{count / 1e6:.2f} M parameters; trained parts: {', '.join(trained)}"
    )


def announce(context: Context, display: Display) -> None:
    """Says what is about to be trained, and how to stop it."""
    config, engine, learner = context.config, context.engine, context.learner
    count = sum(parameter.numel() for parameter in learner.model.parameters())
    display.say(
        f"{learner.model.family}: {count / 1e6:.1f} M parameters, {len(context.train_split)} chunks, "
        f"{config.data.batch} a step over {engine.world} process(es) on {engine.device.type}, "
        f"precision {engine.precision}, from step {learner.step}; to stop and save: touch {context.run.path}/STOP"
    )
    if learner.mixture:
        display.say(sets_line(context.train_split, learner.mixture))
    if learner.adversary.discriminator is not None:
        display.say(of_phase(context))
    if context.valid_split is None:
        display.say("these shards have no held-out recordings: nothing is measured while training")
