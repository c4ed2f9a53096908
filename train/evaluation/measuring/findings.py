"""All that is measured of a model on a split, by all processes."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder
from shards import Split
from train.errors import TrainError
from train.evaluation.measuring.chunks import (
    SAMPLES,
    Measured,
    measure_chunks,
    measure_latents,
    measure_levels,
    reference_embeddings,
    sample_embeddings,
)
from train.evaluation.measuring.heldout import spread, to_audio
from train.evaluation.measuring.metrics import SILENT_PEAK
from train.evaluation.measuring.recordings import measure_speech_of
from train.evaluation.measuring.sharing import Columns
from train.parallel.engine import Engine

# Training chunks that the mean predictor averages.
MEAN_OF = 4096


@dataclass
class Findings:
    """What was measured.

    Attributes:
        chunks: Every chunk's reconstruction.
        floors: The same of guesses that know nothing of the chunk, by name.
        levels: Of some chunks what sets of levels are worth, see `measure_levels`.
        latents: Columns of `latent_columns` for every chunk.
        references: Embeddings of every chunk as it is, [n, D].
        samples: Embeddings of draws from the prior, [m, D].
        speech: PESQ and STOI by recording, if wanted.
    """

    chunks: Measured
    floors: dict[str, Measured]
    levels: list[tuple[list[int], Measured]]
    latents: Columns
    references: np.ndarray
    samples: np.ndarray
    speech: dict[int, dict[str, float]] | None


def measure_all(engine: Engine, split: Split, model: Autoencoder, data: str, with_speech: bool) -> Findings:
    """The same on every process.

    Args:
        engine: The processes.
        split: What to measure on.
        model: In evaluation mode.
        data: Place of the shards that hold the split.
        with_speech: Whether listening models for speech are asked too.

    Raises:
        TrainError: on every process, when the split is nothing but silence or the model's output is not finite.
    """
    device = next(model.parameters()).device
    chunks = measure_chunks(engine, split, device, model.reconstruct, "reconstructions")
    if chunks.silent.all():
        raise TrainError(
            f"{data}: all {len(chunks)} chunks of the split '{split.name}' are silent (never above "
            f"{20 * np.log10(SILENT_PEAK):.0f} dBFS): nothing to measure; give --split, or build from louder ones"
        )
    loud = int((~chunks.silent).sum())
    return Findings(
        chunks=chunks,
        latents=measure_latents(engine, split, model),
        floors=measure_floors(engine, split, data, device),
        references=reference_embeddings(engine, split, device),
        samples=sample_embeddings(engine, model, min(SAMPLES, loud)),
        levels=measure_levels(engine, split, model),
        speech=measure_speech_of(engine, split, model) if with_speech else None,
    )


def measure_floors(engine: Engine, split: Split, data: str, device: torch.device) -> dict[str, Measured]:
    """What silence and the mean of the training chunks would score on the same chunks."""
    guesses = {"silence": torch.zeros(1, split.samples, device=device)}
    if split.manifest.splits.get("train"):
        guesses["mean of training chunks"] = engine.everywhere(lambda: mean_chunk(Split.open(data, "train"), device))
    return {name: measure_chunks(engine, split, device, guess.expand_as, name) for name, guess in guesses.items()}


def mean_chunk(train: Split, device: torch.device) -> Tensor:
    """The mean of chunks spread over a split: [1, T]."""
    taken = spread(len(train), MEAN_OF)
    parts = (to_audio(train.read(part), device).sum(0) for part in np.array_split(taken, 16) if len(part))
    total = cast(Tensor, sum(parts))
    return total / len(taken)
