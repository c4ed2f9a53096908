"""Held-out measures of autoencoders: how close reconstructions are to the recordings."""

import math
from typing import cast

from audiovae import Autoencoder
from audiovae.trainable import Trainable
from shards import Split
from train.evaluation.measuring.heldout import EMBEDDINGS, POWER, frechet_of, measure_share, read_audio, spread
from train.evaluation.measuring.latents import latent_use
from train.evaluation.measuring.metrics import means, measure
from train.optim.ranking import ON_REQUEST
from train.parallel.engine import Engine
from train.tracking.media import Media
from train.training.context import Context
from train.training.held_out.examples import Examples
from train.training.held_out.extra import SCORES, extra_of
from train.training.held_out.kinds import Heartbeat, Sums

EXAMPLES = 4
LATENT_USE_CHUNKS = 256


class Reconstruction:
    """Measures of reconstructions; in the adversarial phase also scores of the discriminator."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def share(self, model: Trainable, split: Split, heartbeat: Heartbeat) -> Sums:
        """See `HeldOut.share`."""
        config, learner = self._context.config, self._context.learner
        # An attempt may begin at the start of the phase, where the model has not been trained against it yet.
        judge = learner.adversary.discriminator if learner.step != config.phase_start else None
        extra = extra_of(config, model.rate, judge)
        limit = config.tracking.evaluate_chunks
        return measure_share(cast(Autoencoder, model), split, limit, self._context.engine, heartbeat, extra)

    def values(self, sums: Sums, engine: Engine) -> dict[str, float]:
        """See `HeldOut.values`."""
        table = sums.pop(EMBEDDINGS, None)
        values = means(sums)
        if table is not None:
            # Each process could round in its own way, and all decide by this value.
            values["frechet"] = engine.share(frechet_of(table))
        return values

    def error(self, values: dict[str, float]) -> float | None:
        """The mean squared error over the mean square of the recordings; None for models of spectra."""
        error = values["mse"] / max(values[POWER], 1e-12)
        # Of spectra, phases are estimated, and the error of the waveform says nothing. All silent chunks give no error.
        known = self._context.learner.model.config.representation.kind == "waveform" and not math.isnan(error)
        return error if known else None

    def line(self, values: dict[str, float]) -> str:
        """See `HeldOut.line`."""
        return summary(values)

    def examples(self, model: Trainable, split: Split) -> tuple[Media | None, dict[str, float]]:
        """The same few chunks each time, their reconstructions, and how the latents are used."""
        model = cast(Autoencoder, model)
        chunks = spread(len(split), EXAMPLES)
        audio = read_audio(split, chunks, self._context.engine.device)
        output = model.reconstruct(audio).float()
        pair = audio.squeeze(1).cpu().numpy(), output.squeeze(1).cpu().numpy()
        measures = {name: values.cpu().numpy() for name, values in measure(output, audio, split.rate).items()}
        usage = {name: share.cpu().numpy() for name, share in model.usage().items()}
        step = self._context.learner.step
        shown = Examples(step, split.names(chunks), *pair, measures, split.rate, usage)
        return Media(step, shown.items), latent_values(model, split)


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
