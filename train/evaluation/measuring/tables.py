"""Converts measures of chunks to the rows of metrics.json and metrics.csv."""

import csv
import io
from typing import Any

import numpy as np

from shards import Split
from shards.text import for_csv
from train.evaluation.measuring.chunks import MEASURES, Measured
from train.evaluation.measuring.frechet import frechet
from train.evaluation.measuring.latents import latent_rows
from train.evaluation.measuring.metrics import BY_CHANNEL, CHANNELS
from train.evaluation.measuring.sharing import Columns
from train.evaluation.statistics.bootstrap import grouping, mean_intervals, median_interval
from train.evaluation.statistics.jackknife import jackknife_intervals

# Bit rates of the latents; each family has some of them.
RATES = ("kl_nats_per_second", "kl_bits_per_second", "bits_per_second", "entropy_bits_per_second")
SHARES = ("active_units", "codes_used")
LEVELS = ("reference_dbfs", "output_dbfs")
# Of a channel of stereo: the level of the output minus that of the recording, in dB.
LEVEL = "level"
STEREO = tuple(f"{channel}_{name}" for channel in CHANNELS for name in BY_CHANNEL)


def none_if_nan(value: float) -> float | None:
    """Replaces NaN by None, because JSON has no NaN."""
    return None if np.isnan(value) else float(value)


def ends_or_none(ends: np.ndarray) -> list[float] | None:
    """An interval [2] as a list for JSON; None if an end is NaN."""
    return None if np.isnan(ends).any() else ends.tolist()


def averages(measured: Measured, samples: int) -> dict[str, Any]:
    """Mean of each measure over the chunks that are not silent, the median of SI-SDR, and their intervals.

    Args:
        measured: The chunks of the row.
        samples: Length of a chunk in samples.
    """
    loud = measured.where(~measured.silent)
    names = [name for name in (*MEASURES, LEVEL, *RATES) if name in loud.columns]
    groups, over = grouping(loud.sources, loud.starts, samples)
    values = np.stack([loud.columns[name] for name in names], axis=1).astype(np.float64)
    row: dict[str, Any] = {}
    for name, column in zip(names, values.T, strict=True):
        there = column[~np.isnan(column)]
        row[name] = float(there.mean()) if len(there) else None
        if name == "si_sdr":
            row["si_sdr_median"] = float(np.median(there)) if len(there) else None
    intervals = dict(zip(names, mean_intervals(values, groups), strict=True))
    intervals["si_sdr_median"] = median_interval(values[:, names.index("si_sdr")], groups)
    row["intervals"] = {name: ends_or_none(ends) for name, ends in intervals.items()}
    row["interval_over"] = over
    return row


def silence(measured: Measured) -> dict[str, Any]:
    """Levels of silent chunks and of their reconstructions, over all of them joined, and the loudest reconstruction."""
    own = measured.where(measured.silent)
    row: dict[str, Any] = {"chunks": len(own)}
    for name in LEVELS:
        power = 10 ** (own.columns[name].astype(np.float64) / 10)
        row[name] = float(10 * np.log10(power.mean())) if len(own) else None
    row["output_dbfs_loudest"] = float(own.columns["output_dbfs"].max()) if len(own) else None
    return row


def by_recording(measured: Measured, latents: Columns, code_size: int, split: Split) -> list[dict[str, Any]]:
    """One row of averages per recording of the split, in the order of the manifest."""
    rows = []
    for source in np.unique(measured.sources):
        here = measured.sources == source
        loud = here & ~measured.silent
        own = {name: values[loud] for name, values in latents.items()}
        rows.append(
            {
                "path": split.manifest.sources[source].path,
                "chunks": int(here.sum()),
                "silent_chunks": int((here & measured.silent).sum()),
                **averages(measured.where(here), split.samples),
                "latents": latent_rows(own, code_size, split.samples / split.rate) if loud.any() else [],
            }
        )
    return rows


def latents_in_use(measured: Measured, latents: Columns, code_size: int, split: Split) -> list[dict[str, Any]]:
    """The result of `latent_rows` for the chunks that are not silent, with intervals for values that vary."""
    loud = ~measured.silent
    if not loud.any():
        return []
    own = {name: values[loud] for name, values in latents.items()}
    seconds = split.samples / split.rate
    rows: list[dict[str, Any]] = [*latent_rows(own, code_size, seconds)]
    groups, over = grouping(measured.sources[loud], measured.starts[loud], split.samples)

    def without(kept: np.ndarray) -> np.ndarray:
        part = latent_rows({name: values[kept] for name, values in own.items()}, code_size, seconds)
        return np.array([[*row.values()] for row in part])

    # Bounds: shares are at most 1; perplexity is between 1 and the number of codes.
    lowest = np.array([1.0 if name == "perplexity" else 0.0 for name in rows[0]])[:, None]
    highest = [1.0 if name in SHARES else code_size if name == "perplexity" else np.inf for name in rows[0]]
    intervals = jackknife_intervals(without, groups, low=lowest, high=np.array(highest)[:, None])
    for row, ends in zip(rows, intervals, strict=True):
        named = dict(zip(row, ends, strict=True))
        row["intervals"] = {name: ends_or_none(named[name]) for name in row if name != "bits_per_second"}
        row["interval_over"] = over
    return rows


def frechet_interval(references: np.ndarray, others: np.ndarray, groups: np.ndarray) -> list[float] | None:
    """Interval of the Fréchet distance between reference and output vectors, [n, D] each; None without one."""
    if len(references) < 3:
        return None

    def without(kept: np.ndarray) -> np.ndarray:
        distance = frechet(references[kept], others[kept])
        return np.array(np.nan if distance is None else distance)

    return ends_or_none(jackknife_intervals(without, groups))


def csv_text(measured: Measured, split: Split) -> str:
    """CSV with one line per chunk in the order of the split; values that a silent chunk lacks are empty."""
    names = [name for name in (*MEASURES, *RATES, *LEVELS, *STEREO) if name in measured.columns]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["chunk", "recording", "start_second", *names, "silent"])
    columns = [measured.columns[name] for name in names]
    for place, chunk in enumerate(split.names(measured.indices)):
        values = ["" if np.isnan(column[place]) else f"{column[place]:.6g}" for column in columns]
        path = split.manifest.sources[measured.sources[place]].path
        start = f"{measured.starts[place] / split.rate:.10g}"
        writer.writerow([for_csv(chunk), for_csv(path), start, *values, int(measured.silent[place])])
    return file.getvalue()
