"""Measures everything about a model on a split, with all processes."""

from collections.abc import Callable
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
from train.evaluation.measuring.heldout import open_windows, read_audio, spread
from train.evaluation.measuring.metrics import MONO_MIX, SILENT_PEAK
from train.evaluation.measuring.recordings import measure_speech_of
from train.evaluation.measuring.sharing import Columns
from train.parallel.engine import Engine

# Number of training chunks in the mean baseline.
MEAN_OF = 4096


@dataclass
class Findings:
    """The raw results of an evaluation.

    Attributes:
        chunks: Measures of the reconstruction of every chunk.
        floors: The same for baselines by name, which ignore the input but for `MONO_MIX` of stereo.
        levels: Measures of reconstructions from sets of levels on some chunks; see `measure_levels`.
        latents: Columns of `latent_columns` for every chunk.
        references: Embeddings of the original chunks, [n, D].
        samples: Embeddings of samples from the prior, [m, D].
        speech: PESQ and STOI by recording, with --speech.
    """

    chunks: Measured
    floors: dict[str, Measured]
    levels: list[tuple[list[int], Measured]]
    latents: Columns
    references: np.ndarray
    samples: np.ndarray
    speech: dict[int, dict[str, float]] | None


def measure_all(
    engine: Engine, split: Split, model: Autoencoder, data: str, with_speech: bool, with_high: bool = False
) -> Findings:
    """Measures a model on a split; the result is the same on every process.

    Args:
        engine: The processes.
        split: The split to measure.
        model: A model in evaluation mode.
        data: Path or URL of the shards that hold the split.
        with_speech: Whether to measure PESQ and STOI.
        with_high: Whether `chunks` has `log_mel_high` too.

    Raises:
        TrainError: on every process, if all chunks are silent or the model's output is not finite.
    """
    device = next(model.parameters()).device
    chunks = measure_chunks(engine, split, device, model.reconstruct, "reconstructions", with_high)
    if chunks.silent.all():
        raise TrainError(
            f"{data}: all {len(chunks)} chunks of the split '{split.name}' are silent (never above "
            f"{20 * np.log10(SILENT_PEAK):.0f} dBFS): nothing to measure; pass another --split, or "
            "build shards from louder recordings"
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
    """Measures baselines on the same chunks: silence, the mean of the training chunks, and of stereo its mono mix."""
    baselines = {"silence": torch.zeros(split.channels, split.samples, device=device)}
    if split.manifest.splits.get("train"):
        baselines["mean of training chunks"] = engine.everywhere(
            lambda: mean_chunk(open_windows(data, "train", split.samples), device)
        )
    makers: dict[str, Callable[[Tensor], Tensor]] = {name: audio.expand_as for name, audio in baselines.items()}
    if split.channels == 2:
        makers[MONO_MIX] = lambda audio: audio.mean(1, keepdim=True).expand_as(audio)
    return {name: measure_chunks(engine, split, device, make, name) for name, make in makers.items()}


def mean_chunk(train: Split, device: torch.device) -> Tensor:
    """The mean of up to MEAN_OF chunks spread evenly over a split: [A, T]."""
    taken = spread(len(train), MEAN_OF)
    parts = (read_audio(train, part, device).sum(0) for part in np.array_split(taken, 16) if len(part))
    total = cast(Tensor, sum(parts))
    return total / len(taken)
