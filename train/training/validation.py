"""Held-out evaluation while training: measures of the averaged weights, and examples for the tracker."""

import math

from audiovae import Autoencoder
from shards import Split
from train.evaluation.measuring.heldout import measure_split, spread, to_audio
from train.evaluation.measuring.latents import latent_use
from train.evaluation.measuring.metrics import measure
from train.process.console import Display
from train.process.watchdog import Watchdog
from train.tracking.media import Media
from train.tracking.tracker import Tracker
from train.training.context import Context
from train.training.examples import Examples
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

    def measure(self) -> dict[str, float]:
        """Means over held-out chunks as `valid/NAME`; empty without held-out chunks. Every process must call it.

        It sets the learner's `valid_si_sdr`. Every tracking.audio_every steps and at the last step, rank 0 also
        sends examples to the tracker.
        """
        learner, config, split = self._context.learner, self._context.config, self._context.valid_split
        if split is None:
            return {}
        busy = self._display.busy("measuring on held-out chunks")
        with self._meter.paused(), busy, learner.strategy.averaged() as model:
            limit = config.tracking.evaluate_chunks
            values = measure_split(model, split, limit, self._context.engine, self._watchdog.heartbeat)
            examples_due = learner.step % config.tracking.audio_every == 0 or learner.step == config.optim.steps
            if self._tracker and examples_due:
                self._send_examples(model, split, self._tracker)
                values |= latent_values(model, split)
        usable = math.isfinite(values["si_sdr"]) and not values["not_finite"]
        learner.valid_si_sdr = values["si_sdr"] if usable else None
        self._display.say(f"step {learner.step}: {summary(values)}")
        return {f"valid/{name}": value for name, value in values.items() if not math.isnan(value)}

    def _send_examples(self, model: Autoencoder, split: Split, tracker: Tracker) -> None:
        """Sends the same few chunks each time, their reconstructions and the use of codes."""
        chunks = spread(len(split), EXAMPLES)
        audio = to_audio(split.read(chunks), self._context.engine.device)
        output = model.reconstruct(audio).float()
        pair = audio.squeeze(1).cpu().numpy(), output.squeeze(1).cpu().numpy()
        measures = {name: values.cpu().numpy() for name, values in measure(output, audio, split.rate).items()}
        usage = {name: share.cpu().numpy() for name, share in model.usage().items()}
        examples = Examples(self._context.learner.step, split.names(chunks), *pair, measures, split.rate, usage)
        tracker.show(Media(examples.step, examples.items))


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
    return (
        f"held-out SI-SDR {values['si_sdr']:.2f} dB, STFT distance {values['stft']:.3f}, "
        f"mel distance {values['mel']:.3f}, cosine {values['cosine']:.3f}"
    )
