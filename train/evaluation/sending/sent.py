"""Measures what is sent, each kind with its own rate.

Posterior means are never sent: at their quality the rate would be infinite. The KL divergence is the rate of draws from
the posterior, and a file has the rate of its bytes.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, compress_recording, decompress_recording
from audiovae.layers import gaussian
from shards import Split
from train.evaluation.measuring.chunks import MEASURES, Measured
from train.evaluation.measuring.heldout import AT_A_TIME, noise_at, read_audio, spread
from train.evaluation.measuring.metrics import measure
from train.evaluation.measuring.recordings import join_chunks
from train.evaluation.measuring.sharing import whole_table
from train.evaluation.measuring.tables import averages
from train.parallel.engine import Engine

# Recordings that are written as files, spread evenly over the split.
FILES = 64
LONGEST_S = 60  # of each recording, from its beginning


def measure_sent(engine: Engine, split: Split, model: Autoencoder) -> dict[str, Any]:
    """Rows for `metrics.json`, the same on every process, with the names `draws` and `file`.

    `draws`, for real latents: as `reconstruction`, from one draw of the posterior, with the KL divergence. `file`: mean
    measures over the chunks of up to FILES recordings, each decoded from the bytes of a file of its first LONGEST_S
    seconds, with the number of `recordings` and `file_bits_per_second` over all of them. Empty for a model that cannot
    encode yet, and without chunks that are not silent.
    """
    if not model.ready:
        return {}
    rows = {}
    if not model.code_size:
        drawn = measure_draws(engine, split, model)
        if not drawn.silent.all():
            rows["draws"] = averages(drawn, split.samples)
    if found := measure_files(engine, split, model):
        rows["file"] = found
    return rows


def measure_draws(engine: Engine, split: Split, model: Autoencoder) -> Measured:
    """Measures every chunk against the reconstruction from one draw of its posterior, the same each time."""
    device = next(model.parameters()).device

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        audio = read_audio(split, rows, device)
        noise = noise_at(int(rows[0]), audio)

        def draw(level: int, mean: Tensor, log_variance: Tensor) -> Tensor:
            return gaussian.draw(mean, log_variance, noise.normal(*mean.shape[1:]))

        output = model.decode_relative(model.encode_relative(audio, draw)).float()
        bits = model.divergences(audio, noise_at(int(rows[0]), audio)).sum(1) / np.log(2) / model.seconds
        return measure(output, audio, split.rate) | {"kl_bits_per_second": bits}

    found = whole_table(engine, "measuring draws", len(split), columns)
    return Measured(np.arange(len(split)), *split.keys(), found)


def measure_files(engine: Engine, split: Split, model: Autoencoder) -> dict[str, Any] | None:
    """The row `file` of `measure_sent`; None without chunks that are not silent."""
    sources, starts = split.keys()
    recordings = np.unique(sources)
    recordings = recordings[spread(len(recordings), FILES)]

    def columns(rows: np.ndarray) -> dict[str, Tensor]:
        (source,) = recordings[rows]
        own = starts[sources == source]
        first = int(own.min())
        longest = max(split.samples, LONGEST_S * split.rate)
        own = own[own - first + split.samples <= longest]
        audio = torch.from_numpy(join_chunks(split, int(source), first)[..., :longest])
        coded = compress_recording(model, audio)
        output = decompress_recording(model, coded)
        sums = chunk_sums(output, audio, own - first, split)
        return sums | {"kilobits": torch.tensor([coded.bits_per_second * coded.seconds / 1000, coded.seconds])[None]}

    table = whole_table(engine, "writing files", len(recordings), columns, at_a_time=1)
    totals = {name: values.astype(np.float64).sum(0) for name, values in table.items()}
    if not totals["si_sdr"][1]:
        return None
    kilobits, seconds = totals.pop("kilobits")
    row: dict[str, Any] = {name: float(total / count) if count else None for name, (total, count) in totals.items()}
    return row | {"file_bits_per_second": float(1000 * kilobits / seconds), "recordings": len(recordings)}


def chunk_sums(output: Tensor, audio: Tensor, starts: np.ndarray, split: Split) -> dict[str, Tensor]:
    """Sum and count of each measure over the chunks of a recording, [T] or [2, T], that are not silent, [1, 2] each."""
    parts = []
    for some in np.array_split(starts, -(-len(starts) // AT_A_TIME)):
        pairs = [
            torch.stack([whole.view(split.channels, -1)[:, i : i + split.samples] for i in some])
            for whole in (output, audio.contiguous())
        ]
        parts.append(measure(pairs[0], pairs[1], split.rate))
    found = {name: torch.cat([part[name] for part in parts]) for name in (*MEASURES, "silent")}
    loud = found.pop("silent") == 0
    return {
        name: torch.stack([values[loud].nan_to_num().sum(), (~values[loud].isnan()).sum().float()])[None]
        for name, values in found.items()
    }
