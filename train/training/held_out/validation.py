"""Held-out evaluation while training: measures of the averaged weights, and examples for the tracker."""

import math

from torch import Tensor

from audiovae import Autoencoder
from shards import Split
from train.evaluation.measuring.heldout import EMBEDDINGS, frechet_of, measure_share, spread, to_audio
from train.evaluation.measuring.latents import latent_use
from train.evaluation.measuring.metrics import means, measure
from train.optim.ranking import MEASURES, ON_REQUEST
from train.process.console import Display
from train.process.phases import phase
from train.process.stop_requests import StopNowError
from train.process.watchdog import Watchdog
from train.tracking.media import Media
from train.tracking.tracker import Tracker
from train.training.context import Context
from train.training.held_out.examples import Examples
from train.training.held_out.extra import SCORES, extra_of
from train.training.learner import in_phase
from train.training.meter import Meter

EXAMPLES = 4
LATENT_USE_CHUNKS = 256


class Validation:
    """Measures held-out chunks with the averaged weights. Its time does not count in the training rate."""

    def __init__(
        self, context: Context, tracker: Tracker | None, meter: Meter, watchdog: Watchdog, display: Display
    ) -> None:
        self._context, self._tracker = context, tracker
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
                found = self._measure_here(model, split)
            if context.engine.any(found is None) or found is None:
                return None
            share, examples, latents = found
            sums = context.engine.sum(share)
            table = sums.pop(EMBEDDINGS, None)
            values = means(sums) | latents
            if table is not None:
                # Each process could round in its own way, and all decide by this value.
                values["frechet"] = context.engine.share(frechet_of(table))
            power = values.pop("power")
        if self._tracker and examples:
            self._tracker.show(Media(examples.step, examples.items))
        self._rank(values)
        self._display.say(f"step {learner.step}: {summary(values)}")
        finite, error = not values["not_finite"], values["mse"] / max(power, 1e-12)
        # Of spectra, phases are estimated, and the error of the waveform says nothing. All silent chunks give no error.
        known = learner.model.config.representation.kind == "waveform" and not math.isnan(error)
        what = "the model's output is far louder than its input" if finite else "the model's output is not finite"
        note_health(context, self._display, finite, error if known else None, what)
        return {f"valid/{name}": value for name, value in values.items() if not math.isnan(value)}

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

    def _measure_here(
        self, model: Autoencoder, split: Split
    ) -> tuple[dict[str, Tensor], Examples | None, dict[str, float]] | None:
        """Sums of this process's chunks, examples and values of latents if they are due; None after a stop request."""
        config, engine, step = self._context.config, self._context.engine, self._context.learner.step
        due = step % config.tracking.audio_every == 0 or step == config.optim.steps
        try:
            with self._context.stop.interruptible():
                limit = config.tracking.evaluate_chunks
                # An attempt may begin at the start of the phase, where the model has not been trained against it yet.
                judge = self._context.learner.adversary.discriminator if step != config.phase_start else None
                extra = extra_of(config, model.rate, judge)
                share = measure_share(model, split, limit, engine, self._watchdog.heartbeat, extra)
                if not (self._tracker and due):
                    return share, None, {}
                return share, self._examples(model, split), latent_values(model, split)
        except StopNowError:
            return None

    def _examples(self, model: Autoencoder, split: Split) -> Examples:
        """The same few chunks each time, their reconstructions and the use of codes."""
        chunks = spread(len(split), EXAMPLES)
        audio = to_audio(split.read(chunks), self._context.engine.device)
        output = model.reconstruct(audio).float()
        pair = audio.squeeze(1).cpu().numpy(), output.squeeze(1).cpu().numpy()
        measures = {name: values.cpu().numpy() for name, values in measure(output, audio, split.rate).items()}
        usage = {name: share.cpu().numpy() for name, share in model.usage().items()}
        return Examples(self._context.learner.step, split.names(chunks), *pair, measures, split.rate, usage)


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


def latent_values(model: Autoencoder, split: Split) -> dict[str, float]:
    """How the model uses its latents on held-out chunks: `NAME_N` for level or codebook N."""
    levels = latent_use(model, split, LATENT_USE_CHUNKS)
    return {f"{name}_{i}": value for i, level in enumerate(levels) for name, value in level.items()}


def summary(values: dict[str, float]) -> str:
    """The held-out measures as one line for people."""
    if values["not_finite"]:
        return f"the model's output is not finite for {100 * values['not_finite']:.3g} % of the held-out chunks"
    if values["silent"] == 1:
        return "all held-out chunks are silent: nothing to measure"
    line = (
        f"held-out SI-SDR {values['si_sdr']:.2f} dB, STFT distance {values['stft']:.3f}, "
        f"mel distance {values['mel']:.3f}, cosine {values['cosine']:.3f}"
    )
    line += "".join(f", {name} {values[name]:.3f}" for name in ON_REQUEST if name in values)
    if SCORES[0] in values:
        line += f", score of recordings {values['real_score']:.3f}, of reconstructions {values['fake_score']:.3f}"
    return line
