"""The regular ends of an attempt: stopped before a step, stopped with everything saved, or finished and exported."""

from pathlib import Path

import audiovae
from train.adversarial.discriminator_file import write_discriminator
from train.optim.snapshot import Snapshot
from train.process.console import Display
from train.process.phases import phase
from train.process.stop_requests import FINISHED, exit_code_when_stopped
from train.process.watchdog import Watchdog
from train.runs import checkpoint
from train.runs.async_save import Saver
from train.runs.lines import EARLY
from train.runs.model_facts import facts_of
from train.tracking.tracker import Tracker
from train.training.companion import add_autoencoder
from train.training.context import Context

# Seconds that W&B has to receive the last points when a signal ends the process.
AT_ONCE_S = 3.0


def end_before_a_step(context: Context, tracker: Tracker | None, display: Display, reason: str) -> None:
    """Writes STOPPED after a stop request before the first step: the newest checkpoint, if any, is all there is.

    Every process may call it, in any thread; only rank 0 writes.
    """
    if context.engine.is_main:
        step = context.learner.step
        context.run.end(reason, step)
        display.say(f"stopped at step {step} ({reason}) before another step; run the same command to resume")
        if tracker:
            tracker.close(False, AT_ONCE_S)
    display.__exit__(None, None, None)


def end_stopped(context: Context, saver: Saver, reason: str, watchdog: Watchdog, display: Display) -> int:
    """Waits for the last checkpoint and writes STOPPED; returns the exit code.

    Args:
        context: The attempt.
        saver: Has begun the last checkpoint.
        reason: Why this process stops; empty if only another process got a stop request.
        watchdog: Pauses while rank 0 writes.
        display: For the line at the end.
    """
    step = context.learner.step
    reason = reason or "signal on another process"

    def end() -> None:
        saver.finish()
        context.run.end(reason, step)

    with phase(f"saving step {step}", context.engine.is_main, display.call):
        context.engine.on_main(end, watchdog.paused)
    display.say(f"stopped at step {step} ({reason}), all saved; run the same command to resume")
    return exit_code_when_stopped()


def end_finished(context: Context, saver: Saver, watchdog: Watchdog, display: Display) -> int:
    """Waits for the last checkpoint, exports the averaged model to `model/`, writes DONE; returns the exit code."""
    learner, run, folder = context.learner, context.run, context.run.path / "model"
    early = early_end(context)
    with phase(f"saving step {learner.step}", context.engine.is_main, display.call):
        context.engine.on_main(saver.finish, watchdog.paused)
    last = learner.snapshot()

    def export() -> str:
        step, exported, note = learner.step, last, ""
        if learner.health.diverged:
            step, exported, note = _instead_of_diverged(context, last)
        facts = facts_of(run, step, context.train_split.manifest, context.valid_split, note)

        def write(path: Path) -> None:
            audiovae.save(learner.model, path, exported.averaged, facts)
            add_autoencoder(run.path, path)
            if exported.discriminator:
                write_discriminator(path, exported.discriminator.weights, context.config.adversarial.shape)

        checkpoint.write_folder(folder, write)
        how = f"{EARLY}{early}" if early else "finished"
        run.end("; ".join(filter(None, [how, note])), learner.step, finished=True)
        return note

    note = context.engine.on_main(export, watchdog.paused)
    told = [f"finished at step {learner.step}: {folder}"]
    told += [f"it ended early, as {early}"] if early else []
    display.say("; ".join(told + ([f"warning: {note}"] if note else [])))
    return FINISHED


def early_end(context: Context) -> str:
    """Why the run ends before its last step; empty while it goes on."""
    config, learner = context.config, context.learner
    until = config.patience
    if until is None or learner.step >= config.optim.steps or not learner.patience.over(until):
        return ""
    return learner.patience.reason(until)


def _instead_of_diverged(context: Context, last: Snapshot) -> tuple[int, Snapshot, str]:
    """Step and state of the model that a diverged training leaves, and what its files say about it."""
    learner, health = context.learner, context.learner.health
    told = f"the training diverged at step {health.since}"
    if not context.config.checkpoint.export_good:
        return learner.step, last, f"{told}; the model is that of the last step, as checkpoint.export_good is false"
    folder, by = context.run.path / "checkpoints", context.config.checkpoint.best_by
    path = checkpoint.last_good(folder, health.good, health.since, by)
    if path is None:
        return learner.step, last, f"{told}, before any good checkpoint; the model is that of the last step"
    step = checkpoint.step_of(path)
    return step, checkpoint.load(path), f"{told}; the model is that of step {step}, the last good checkpoint"
