"""Held-out measures of priors: the loss of sequences that training has not seen."""

from typing import cast

import numpy as np
import torch

import audiovae
from audiovae import ModelError
from audiovae.layers.noise import NoiseOfItems, seed_of
from audiovae.priors.prior import Prior
from audiovae.recordings.sequences import Frames
from audiovae.saved.prior_folder import AUTOENCODER
from audiovae.trainable import Trainable
from shards import Split
from train.errors import TrainError
from train.evaluation.measuring.heldout import spread, to_audio
from train.evaluation.measuring.metrics import means, sums_and_counts
from train.parallel.engine import Engine
from train.tracking.media import Media
from train.training.context import Context
from train.training.held_out.drawn import Drawn
from train.training.held_out.kinds import Heartbeat, Sums
from train.training.step import check_records

AT_A_TIME = 8
EXAMPLES = 4
# The loss of a flow depends on the time and the noise that are drawn. Few sequences are measured several times.
DRAWS = 128


class Likelihood:
    """The mean loss of held-out sequences, with the same noise at each evaluation."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @torch.no_grad()
    def share(self, model: Trainable, split: Split, heartbeat: Heartbeat) -> Sums:
        """See `HeldOut.share`; a sequence counts the same for any number of processes."""
        engine, model = self._context.engine, cast(Prior, model)
        chosen = spread(len(split), self._context.config.tracking.evaluate_chunks)
        draws = max(1, DRAWS // max(1, len(chosen))) if model.has_random_loss else 1
        count = draws * len(chosen)
        # Draw after draw, as the times of a flow ascend with the number of the item: each sequence has all times.
        items = np.arange(count)[engine.rank :: engine.world]
        total = {name: torch.zeros(2, device=engine.device) for name in ("loss", "not_finite")}
        for first in range(0, len(items), AT_A_TIME):
            here = items[first : first + AT_A_TIME]
            records = split.read(chosen[here % len(chosen)])
            check_records(model, records)
            target = model.represent(to_audio(records, engine.device))
            seeds = [seed_of(0, item) for item in here.tolist()]
            noise = NoiseOfItems(seeds, torch.from_numpy(here).to(engine.device), count)
            with engine.autocast():
                loss = model(target, noise).losses["prior"].float()
            finite = loss.isfinite()
            found = {"loss": torch.where(finite, loss, torch.nan), "not_finite": 1 - finite.float()}
            for name, value in sums_and_counts(found).items():
                total[name] += value
            heartbeat()
        return total

    def values(self, sums: Sums, engine: Engine) -> dict[str, float]:
        """See `HeldOut.values`."""
        values = means(sums)
        return values | cast(Prior, self._context.learner.model).in_other_units(values["loss"])

    def error(self, values: dict[str, float]) -> float | None:
        """None: the loss of a prior has no natural limit."""
        return None

    def line(self, values: dict[str, float]) -> str:
        """See `HeldOut.line`."""
        if values["not_finite"]:
            return f"the loss is not finite for {100 * values['not_finite']:.3g} % of the held-out sequences"
        more = {name: value for name, value in values.items() if name not in ("loss", "not_finite")}
        return f"held-out loss {values['loss']:.4f}" + "".join(f", {k} {v:,.4g}" for k, v in more.items())

    def examples(self, model: Trainable, split: Split) -> tuple[Media | None, dict[str, float]]:
        """Recordings as long as the prior's context, of the first labels, from the same random numbers each time.

        There are none without a copy of the autoencoder in the run's folder.
        """
        folder = self._context.run.path / AUTOENCODER
        if not folder.is_dir():
            return None, {}
        prior = cast(Prior, model)
        try:
            autoencoder = audiovae.load(folder, str(self._context.engine.device))
            seconds = Frames(autoencoder).samples(prior.latents.frames) / autoencoder.rate
            names = prior.latents.labels
            label = [names[i % len(names)] for i in range(EXAMPLES)] if names else None
            found = audiovae.generate_recordings(prior, autoencoder, EXAMPLES, seconds, label=label)
        except ModelError as error:
            raise TrainError(f"{error}; the next attempt copies the autoencoder again if {folder} is removed") from None
        drawn = Drawn([audio.numpy() for audio in found], autoencoder.rate)
        return Media(self._context.learner.step, drawn.items), {}
