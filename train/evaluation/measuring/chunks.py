"""Measures every chunk of a split, with all processes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, Noise
from shards import Split
from train.errors import TrainError
from train.evaluation.measuring.frechet import embed
from train.evaluation.measuring.heldout import noise_at, read_audio, spread
from train.evaluation.measuring.latents import latent_columns
from train.evaluation.measuring.metrics import log_mel_error_high, measure
from train.evaluation.measuring.sharing import Columns, whole_table
from train.parallel.engine import Engine

# Measures of chunks that are not silent.
MEASURES = ("si_sdr", "stft", "mel", "mse", "cosine")
# Number of chunks on which levels are compared, and number of samples from the prior.
LEVEL_CHUNKS = 512
SAMPLES = 512
# Level of digital silence: below one step of 24 bits.
SILENCE_DBFS = -140.0
# Audio is in [-1, 1]. Beyond this limit, a square or a sum of squares may overflow.
LARGEST = 1e9


@dataclass
class Measured:
    """Chunks of a split in order, with their measures.

    Attributes:
        indices, sources, starts: [n] int64: number in the split, recording, first sample.
        columns: [n, ...] each: those of MEASURES, `silent` (1 or 0), `reference_dbfs`, `output_dbfs`, and `embedding`
            of the output; of stereo those of `channel_measures`; on request `log_mel_high`.
    """

    indices: np.ndarray
    sources: np.ndarray
    starts: np.ndarray
    columns: Columns

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def silent(self) -> np.ndarray:
        """Which chunks are silent: [n] bool."""
        return self.columns["silent"] > 0

    def where(self, mask: np.ndarray) -> "Measured":
        """Only the chunks of a mask [n] bool."""
        columns = {name: values[mask] for name, values in self.columns.items()}
        return Measured(self.indices[mask], self.sources[mask], self.starts[mask], columns)


def dbfs(audio: Tensor) -> Tensor:
    """20 log10 of the root mean square of each item, at least SILENCE_DBFS: [B, A, T] -> [B]."""
    return (10 * audio.float().square().flatten(1).mean(1).log10()).clamp_min(SILENCE_DBFS)


def measure_chunks(
    engine: Engine,
    split: Split,
    device: torch.device,
    reconstruct: Callable[[Tensor], Tensor],
    title: str,
    with_high: bool = False,
) -> Measured:
    """Measures every chunk of the split against the output of `reconstruct` (audio [B, A, T] to the same shape).

    Args:
        engine: The processes.
        split: The split to measure.
        device: The device of `reconstruct`.
        reconstruct: What to measure.
        title: What is measured, for the progress bar.
        with_high: Whether to measure `log_mel_error_high` too, as `log_mel_high`.

    Raises:
        TrainError: if the output is not finite.
    """

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        audio = read_audio(split, rows, device)
        output = reconstruct(audio).float()
        usable = output.abs().amax((1, 2)) < LARGEST  # False for NaN
        if not usable.all():
            chunk = split.names(rows[~usable.cpu().numpy()])[0]
            raise TrainError(
                f"the reconstruction of chunk {chunk} is not finite or exceeds {LARGEST:g}, so it cannot be measured; "
                "check loss/total and optim/gradient_norm of the training, and train again with a lower --optim.lr"
            )
        more = {"reference_dbfs": dbfs(audio), "output_dbfs": dbfs(output), "embedding": embed(output, split.rate)}
        if with_high:
            more["log_mel_high"] = log_mel_error_high(output, audio, split.rate)
        return measure(output, audio, split.rate) | more

    found = whole_table(engine, f"measuring {title}", len(split), columns)
    return Measured(np.arange(len(split)), *split.keys(), found)


def reference_embeddings(engine: Engine, split: Split, device: torch.device) -> np.ndarray:
    """Embeddings of the original chunks: [n, D]."""

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        return {"embedding": embed(read_audio(split, rows, device), split.rate)}

    return whole_table(engine, "reading references", len(split), columns)["embedding"]


def measure_latents(engine: Engine, split: Split, model: Autoencoder) -> Columns:
    """The columns of `latent_columns` for every chunk."""
    device = next(model.parameters()).device

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        audio = read_audio(split, rows, device)
        return latent_columns(model, audio, noise_at(int(rows[0]), audio))

    return whole_table(engine, "encoding chunks", len(split), columns)


def measure_levels(engine: Engine, split: Split, model: Autoencoder) -> list[tuple[list[int], Measured]]:
    """Measures reconstructions for which only some levels of latents came from the input.

    Uses up to LEVEL_CHUNKS evenly spread chunks. Returns, for each set of levels, the levels taken from the posterior
    (0 is the finest) and the measures; empty for models without levels.
    """
    chosen = spread(len(split), LEVEL_CHUNKS)
    device = next(model.parameters()).device

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        audio = read_audio(split, chosen[rows], device)
        return {
            f"{' '.join(map(str, partial.known))}|{name}": values
            for partial in model.partial_reconstructions(audio, noise_at(int(rows[0]), audio))
            for name, values in measure(partial.audio, audio, split.rate).items()
        }

    table = whole_table(engine, "measuring levels", len(chosen), columns)
    sources, starts = split.keys()
    found: dict[str, Columns] = {}
    for name, values in table.items():
        levels, _, measured = name.partition("|")
        found.setdefault(levels, {})[measured] = values
    return [
        ([int(level) for level in levels.split()], Measured(chosen, sources[chosen], starts[chosen], own))
        for levels, own in found.items()
    ]


def sample_embeddings(engine: Engine, model: Autoencoder, count: int) -> np.ndarray:
    """Embeddings of samples from the prior at temperature 1: [count, D]."""
    device = next(model.parameters()).device

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        noise = Noise(1, int(rows[0]), torch.arange(len(rows), device=device), len(rows))
        return {"embedding": embed(model.sample(len(rows), noise=noise), model.rate)}

    return whole_table(engine, "drawing samples", count, columns)["embedding"]
