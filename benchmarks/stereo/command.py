"""Measure stereo models, and mono models whose output is both left and right, on the same stereo chunks."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from rich.table import Table
from torch import Tensor

import audiovae
from audiovae import Autoencoder, ModelError
from audiovae.layers.representation import mid_side
from benchmarks.results import make_console, write_results
from shards import DataError, Split
from train.evaluation.measuring.heldout import Extra, measure_share, noise_at
from train.evaluation.measuring.metrics import MONO_MIX, means
from train.parallel.engine import Engine

COLUMNS = ("si_sdr", "mel", "stft", "mid_si_sdr", "mid_mel", "side_si_sdr", "side_mel", "side_energy_error_db")
RATE = "kbit/s"
# Chunks whose side is quieter than this have no energy error.
QUIET_SIDE_DB = -70.0


class BothSides:
    """Reconstructs the mean of the channels, with a mono model or none, and gives it to both of them."""

    def __init__(self, model: Autoencoder | None, rate: int) -> None:
        self.rate = rate
        self._inner: Callable[[Tensor], Tensor] = model.reconstruct if model else lambda audio: audio

    def reconstruct(self, audio: Tensor) -> Tensor:
        """[B, 2, T] -> [B, 2, T]."""
        return self._inner(audio.mean(1, keepdim=True)).expand_as(audio)


def side_energy_error(audio: Tensor, output: Tensor) -> Tensor:
    """By how many dB the energy of the side differs, [B]; at most 100, NaN for a quiet side.

    Args:
        audio, output: [B, 2, T].
    """
    wanted, found = (
        10 * torch.log10(mid_side(each)[:, 1].square().mean(1).clamp_min(1e-20)) for each in (audio, output)
    )
    return torch.where(wanted < QUIET_SIDE_DB, torch.nan, (found - wanted).abs().clamp_max(100.0))


def extra_of(model: Autoencoder | None) -> Extra:
    """What is measured beside the usual: the error above, and kbit/s of codes or of the KL divergence of draws."""

    def values(audio: Tensor, output: Tensor) -> dict[str, Tensor]:
        found = {COLUMNS[-1]: side_energy_error(audio, output)}
        if model and model.code_size:
            found[RATE] = torch.full((len(audio),), model.bits_per_second / 1000, device=audio.device)
        elif model:
            own = audio if model.audio_channels == 2 else audio.mean(1, keepdim=True)
            nats = model.divergences(own, noise_at(0, own)).sum(1)
            found[RATE] = nats / math.log(2) / model.seconds / 1000
        return found

    return Extra((RATE, COLUMNS[-1]) if model else COLUMNS[-1:], values)


def row_of(
    name: str, model: Autoencoder | None, split: Split, chunks: int, engine: Engine
) -> dict[str, float | str | None]:
    """The mean measures of a model on up to `chunks` chunks; of the recordings themselves in mono for None.

    Raises:
        ModelError: if the chunks do not fit the model.
    """
    if model and (model.samples, model.rate) != (split.samples, split.rate):
        raise ModelError(
            f"{name}: takes {model.samples} samples at {model.rate} Hz, and the data set has {split.samples} at "
            f"{split.rate} Hz; build it with --samples {model.samples} --rate {model.rate}"
        )
    measured = model if model and model.audio_channels == 2 else BothSides(model, split.rate)
    found = means(measure_share(cast(Autoencoder, measured), split, chunks, engine, extra=extra_of(model)))
    return {"model": name, RATE: found.get(RATE)} | {column: found[column] for column in COLUMNS}


def main(words: list[str]) -> int:
    """Runs the benchmark; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks stereo", description=__doc__)
    parser.add_argument("data", help="a stereo data set, of `python -m shards build --channels 2`")
    parser.add_argument("runs", nargs="+", help="runs or model folders, stereo or mono")
    parser.add_argument("--chunks", type=int, default=256, help="held-out chunks, spread evenly; 256 by default")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows")
    given = parser.parse_args(words)
    try:
        split = Split.open(given.data, "valid")
        if split.channels != 2:
            raise DataError(f"{given.data}: is mono; build it with --channels 2")
        if given.chunks < 1:
            raise DataError(f"--chunks {given.chunks}: choose 1 or more")
        engine = Engine()
        models = {run: audiovae.load(run, device=str(engine.device)) for run in given.runs}
        rows = [row_of(MONO_MIX, None, split, given.chunks, engine)]
        rows += [row_of(run, model, split, given.chunks, engine) for run, model in models.items()]
    except (DataError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    table = Table("model", RATE, *COLUMNS)
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else value for value in row.values()))
    make_console().print(table)
    if given.out:
        write_results(given.out, {"data": given.data, "chunks": given.chunks, "rows": rows})
    return 0
