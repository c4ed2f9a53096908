"""Recordings of a split joined from their chunks, and PESQ and STOI of their reconstructions."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, reconstruct_recording
from shards import Split
from train.evaluation.measuring import speech
from train.evaluation.measuring.heldout import read_audio
from train.evaluation.measuring.sharing import whole_table
from train.evaluation.statistics.bootstrap import MIN_GROUPS, mean_intervals
from train.parallel.engine import Engine

SPEECH = ("pesq", "stoi")


def join_chunks(split: Split, source: int, first: int = 0, seconds: float = float("inf")) -> np.ndarray:
    """The audio of a recording from sample `first` on, at most `seconds` of it: [T], of stereo [2, T], float32.

    Joined from the chunks that start there or later, at least one. Parts that are not in the shards are silent.
    """
    sources, starts = split.keys()
    end = first + max(seconds * split.rate, 1)
    own = np.flatnonzero((sources == source) & (starts >= first) & (starts < end))
    own = own[np.argsort(starts[own])]
    length = int(starts[own].max()) - first + split.samples
    recording = np.zeros((split.channels, length), dtype=np.float32)
    for index in own:
        piece = read_audio(split, np.array([index]), torch.device("cpu"))[0].numpy()
        recording[:, starts[index] - first :][:, : split.samples] = piece
    kept = recording[:, : int(min(length, max(end - first, split.samples)))]
    return kept[0] if split.channels == 1 else kept


def mono(audio: np.ndarray) -> np.ndarray:
    """A recording [T], or the mean of its channels [2, T]: [T]."""
    return audio if audio.ndim == 1 else audio.mean(0)


def measure_speech_of(engine: Engine, split: Split, model: Autoencoder) -> dict[int, dict[str, float]]:
    """PESQ and STOI by recording number, each recording reconstructed in one piece; NaN where there is no value.

    Of stereo, the mean of the channels counts.
    """
    sources, starts = split.keys()
    found = np.unique(sources)

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        values = []
        for source in found[rows]:
            recording = join_chunks(split, source, int(starts[sources == source].min()))
            output = reconstruct_recording(model, torch.from_numpy(recording)).cpu().numpy()
            values.append(speech.measure_speech(mono(recording), mono(output), split.rate))
        return dict(zip(SPEECH, torch.tensor(values, dtype=torch.float32).T, strict=True))

    table = whole_table(engine, "measuring speech", len(found), columns, at_a_time=1)
    return {int(source): {name: float(table[name][i]) for name in SPEECH} for i, source in enumerate(found)}


def speech_averages(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Means and intervals over recordings that have a value, each counted once.

    With fewer than MIN_GROUPS values there is no interval, because it would not represent other recordings.
    """
    values = np.array([[row[name] for name in SPEECH] for row in rows], np.float64)
    intervals = mean_intervals(values, np.arange(len(rows)))
    result: dict[str, Any] = {"recordings": int((~np.isnan(values)).any(1).sum())}
    for name, column in zip(SPEECH, values.T, strict=True):
        there = column[~np.isnan(column)]
        result[name] = float(there.mean()) if len(there) else None
    enough = (~np.isnan(values)).sum(0) >= MIN_GROUPS
    result["intervals"] = {
        name: ends.tolist() if sure else None for name, ends, sure in zip(SPEECH, intervals, enough, strict=True)
    }
    return result | {"interval_over": "recordings"}
