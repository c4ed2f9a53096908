"""Held-out evaluation while training: measures of the averaged weights, and examples for the tracker."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from torch.nn.modules.module import register_module_forward_hook

from audiovae import Autoencoder
from audiovae.trainable import Trainable
from shards import Split
from train.evaluation.measuring.heldout import POWER
from train.optim.ranking import MEASURES
from train.process.console import Display
from train.process.phases import phase
from train.process.stop_requests import StopNowError
from train.process.watchdog import Watchdog
from train.tracking.media import Media
from train.tracking.tracker import Tracker
from train.training.context import Context
from train.training.held_out.kinds import HeldOut, Sums
from train.training.held_out.likelihood import Likelihood
from train.training.held_out.reconstruction import Reconstruction
from train.training.learner import in_phase
from train.training.meter import Meter


def held_out_of(context: Context) -> HeldOut:
    """What is measured of the model of an attempt."""
    return Reconstruction(context) if isinstance(context.learner.model, Autoencoder) else Likelihood(context)


class Validation:
    """Measures held-out chunks with the averaged weights. Its time does not count in the training rate."""

    def __init__(
        self, context: Context, tracker: Tracker | None, meter: Meter, watchdog: Watchdog, display: Display
    ) -> None:
        self._context, self._tracker, self._measured = context, tracker, held_out_of(context)
        self._meter, self._watchdog, self._display = meter, watchdog, display

    def measure(self) -> dict[str, float] | None:
        """Means over held-out chunks as `valid/NAME`; empty without held-out chunks. Every process must call it.

        It sets the learner's `valid` and `patience`. Every tracking.audio_every steps and at the last step, rank 0 also
        sends examples to the tracker.

        Returns:
            None on every process if a stop request ended the evaluation on any of them; nothing has changed then.
        """
        context, learner, split = self._context, self._context.learner, self._context.valid_split
        if split is None:
            return {}
        what = f"step {learner.step}: measuring held-out chunks"
        said = phase(what, context.engine.is_main, self._display.call)
        with self._meter.paused(), self._display.busy("measuring held-out chunks"), said:
            with learner.strategy.averaged() as model:
                share = self._measure_here(model, split)
                if context.engine.any(share is None) or share is None:
                    return None
                if (examples := self._examples(model, split)) is None:
                    return None
            media, more = examples
            values = self._measured.values(context.engine.sum(share), context.engine) | more
        if self._tracker and media:
            self._tracker.show(media)
        self._rank(values)
        self._display.say(f"step {learner.step}: {self._measured.line(values)}")
        finite = not values["not_finite"]
        what = "the model's output is far louder than its input" if finite else "the model's output is not finite"
        note_health(context, self._display, finite, self._measured.error(values), what)
        shown = {name: value for name, value in values.items() if name != POWER and not math.isnan(value)}
        return {f"valid/{name}": value for name, value in shown.items()}

    def _rank(self, values: dict[str, float]) -> None:
        """Notes the values by which checkpoints are ranked and the run may end; none if an output was not finite."""
        config, learner = self._context.config, self._context.learner
        found = {} if values["not_finite"] else {name: values.get(name, math.nan) for name in MEASURES}
        learner.valid = {name: value for name, value in found.items() if math.isfinite(value)}
        # At the start of the adversarial phase, the value is one of the phase before, and the next one begins anew.
        if config.patience and learner.step != config.phase_start:
            measure = config.patience.measure
            phase = in_phase(config, learner.step)
            learner.patience.note(measure, learner.step, learner.valid.get(measure), phase)

    def _measure_here(self, model: Trainable, split: Split) -> Sums | None:
        """Sums of this process's chunks; None after a stop request."""
        try:
            with self._context.stop.interruptible():
                return self._measured.share(model, split, self._watchdog.heartbeat)
        except StopNowError:
            return None

    def _examples(self, model: Trainable, split: Split) -> tuple[Media | None, dict[str, float]] | None:
        """Examples and values that are due, on rank 0, for which the others wait; None on all after a stop request.

        A prior may draw its examples for longer than a watchdog waits for a step: each pass through a layer counts as
        progress on rank 0, and the watchdogs of the others pause.
        """
        config, step, engine = self._context.config, self._context.learner.step, self._context.engine
        made: tuple[Media | None, dict[str, float]] = (None, {})

        def make() -> bool:
            nonlocal made
            if not self._tracker:
                return True
            try:
                with self._context.stop.interruptible(), at_each_layer(self._watchdog.heartbeat):
                    made = self._measured.examples(model, split)
            except StopNowError:
                return False
            return True

        if step % config.tracking.audio_every and step != config.optim.steps:
            return made
        waiting = nullcontext if engine.is_main else self._watchdog.paused
        return made if engine.on_main(make, waiting) else None


@contextmanager
def at_each_layer(heartbeat: Callable[[], None]) -> Iterator[None]:
    """Calls `heartbeat` after each pass through a layer of any model."""
    hook = register_module_forward_hook(lambda *_: heartbeat())
    try:
        yield
    finally:
        hook.remove()


def note_losses(context: Context, display: Display, finite: bool) -> None:
    """The same without held-out recordings: two points of the log in a row without finite losses are a divergence."""
    note_health(context, display, True, None if finite else math.inf, "the losses are not finite")


def note_health(context: Context, display: Display, finite: bool, error: float | None, what: str) -> None:
    """Notes whether the model is sound, see `Health.note`; prints `what` when the training counts as diverged."""
    learner = context.learner
    if learner.health.note(learner.step, finite, error):
        display.say(
            f"warning: the training has diverged at step {learner.health.since}: {what}; it was last sound at step "
            f"{learner.health.good}. Stop it (touch {context.run.path}/STOP) and begin another --run-dir with a lower "
            f"--optim.lr ({context.config.optim.lr:g} here) or more --optim.warmup_steps"
        )
