"""The measures of all sets of sounds, as in metrics.json and metrics.csv."""

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from shards import Split
from train.evaluation.generation.measures.copying import Nearest, copies, nearest
from train.evaluation.generation.measures.distances import coherence, coherence_in_words, diversity, lags
from train.evaluation.generation.measures.kernel import kernel_distance, kernel_floor
from train.evaluation.generation.measures.pairs import Estimate
from train.evaluation.generation.measures.windows import Windows
from train.evaluation.generation.references import Passage, Training
from train.evaluation.generation.sounds import Pieces, Shape
from train.evaluation.measuring.frechet import frechet, noise_floor
from train.evaluation.statistics.bootstrap import COVERAGE

# Rows of the table, in its order.
GENERATED, WITHOUT, RECONSTRUCTED, HELD_OUT = "generated", "autoencoder_prior", "reconstructions", "held_out"


@dataclass(frozen=True)
class Sets:
    """All that is measured.

    Attributes:
        shape: The length of pieces and of windows.
        generated, without, reconstructed: Recordings from the prior, draws from the autoencoder's own prior, and
            reconstructions of held-out passages.
        originals: These passages.
        held_out: Windows of held-out recordings.
        training: Training chunks; None if the data set has none.
        over: What is resampled of held-out recordings: `recordings` or `passages`.
    """

    shape: Shape
    generated: Pieces
    without: Pieces
    reconstructed: Pieces
    originals: list[Passage]
    held_out: Windows
    training: Training | None
    over: str

    @property
    def windows(self) -> dict[str, Windows]:
        """The windows by row of the table."""
        made = {GENERATED: self.generated, WITHOUT: self.without, RECONSTRUCTED: self.reconstructed}
        return {**{name: pieces.windows for name, pieces in made.items()}, HELD_OUT: self.held_out}

    def nearest(self) -> dict[str, Nearest]:
        """The nearest training chunks of the windows, by row; empty without training chunks."""
        if self.training is None or not len(self.training.chunks):
            return {}
        vectors = self.training.vectors
        return {name: nearest(windows, vectors) for name, windows in self.windows.items()}


def measures_of(sets: Sets, near: dict[str, Nearest]) -> dict[str, Any]:
    """The fields of metrics.json that hold measures.

    Args:
        sets: What is measured.
        near: The nearest training chunks, from `Sets.nearest`.
    """
    windows = sets.windows
    floor = kernel_floor(sets.held_out, len(windows[GENERATED].names))
    return {
        "pieces": len(sets.generated.audio),
        "seconds": sets.shape.length / sets.shape.rate,
        "window_seconds": sets.shape.seconds,
        "training_chunks": len(sets.training.chunks) if sets.training else 0,
        "interval_coverage": COVERAGE,
        "interval_over": {"held_out": sets.over, "made": "pieces"},
        "frechet_floor": noise_floor(sets.held_out.vectors, sets.held_out.groups),
        "kernel_floor": {"high": floor.high, "groups": floor.groups} if floor else None,
        "rows": {name: row_of(name, sets, near) for name in windows},
    }


def row_of(name: str, sets: Sets, near: dict[str, Nearest]) -> dict[str, Any]:
    """The measures of one set, with their `intervals` by key."""
    own, held_out = sets.windows[name], sets.held_out
    values: dict[str, Estimate | None] = {"diversity": diversity(own)}
    row: dict[str, Any] = {"windows": len(own), "silent_windows": own.silent}
    if name != HELD_OUT:
        row["frechet"] = frechet(own.vectors, held_out.vectors)
        values["kernel_distance"] = kernel_distance(held_out, own)
        if near and (found := copies(near[name], near[HELD_OUT])):
            values["near_share"] = found.share
            row["nearest_ratio"] = found.ratio if np.isfinite(found.ratio) else None
    row |= {key: estimate.value if estimate else None for key, estimate in values.items()}
    row["intervals"] = {key: interval_of(estimate) for key, estimate in values.items()}
    row["coherence"] = [lag for lag in (lag_of(own, held_out, sets.shape, lag) for lag in all_lags(sets)) if lag]
    return row


def all_lags(sets: Sets) -> list[int]:
    """The lags at which coherence is measured, in windows."""
    return lags(sets.shape.count, sets.shape.seconds)


def lag_of(own: Windows, held_out: Windows, shape: Shape, lag: int) -> dict[str, Any] | None:
    """Coherence at one lag, and what it says beside held-out recordings; None without a pair of windows."""
    found = coherence(own, lag, shape.seconds)
    usual = coherence(held_out, lag, shape.seconds)
    if found is None:
        return None
    return {
        "seconds": found.seconds,
        "distance": found.distance.value,
        "interval": interval_of(found.distance),
        "pairs": found.pairs,
        "verdict": coherence_in_words(found, usual) if usual else "unknown",
    }


def interval_of(estimate: Estimate | None) -> list[float] | None:
    """An interval as JSON takes it."""
    return list(estimate.interval) if estimate and estimate.interval else None


def csv_text(sets: Sets, near: dict[str, Nearest], training: Split | None) -> str:
    """metrics.csv: a line for each generated window that is not silent, with its nearest training chunk."""
    file = io.StringIO(newline="")
    table = csv.writer(file, lineterminator="\n")
    table.writerow(("piece", "start_second", "nearest_distance", "nearest_chunk"))
    windows = sets.generated.windows
    found = near.get(GENERATED)
    names = [""] * len(windows)
    if found and sets.training and training:
        names = training.names(sets.training.chunks[found.windows])
    for i, (piece, place, name) in enumerate(zip(windows.pieces, windows.places, names, strict=True)):
        distance = f"{found.distances[i]:.6g}" if found else ""
        table.writerow((piece + 1, f"{place * sets.shape.seconds:.6g}", distance, name))
    return file.getvalue()
