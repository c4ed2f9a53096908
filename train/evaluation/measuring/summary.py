"""Converts findings to the content of metrics.json."""

from dataclasses import replace
from typing import Any

from shards import Split
from train.evaluation.measuring.chunks import Measured
from train.evaluation.measuring.findings import Findings
from train.evaluation.measuring.frechet import EMBEDDING, frechet, noise_floor
from train.evaluation.measuring.latents import latent_rates
from train.evaluation.measuring.metrics import BY_CHANNEL, CHANNELS
from train.evaluation.measuring.recordings import speech_averages
from train.evaluation.measuring.tables import (
    averages,
    by_recording,
    frechet_interval,
    latents_in_use,
    none_if_nan,
    silence,
)
from train.evaluation.statistics.bootstrap import COVERAGE, grouping


def build_summary(found: Findings, split: Split, code_size: int, seconds: float) -> dict[str, Any]:
    """Rows, intervals and distances; silent chunks are excluded from all means.

    Args:
        found: Findings with at least one chunk that is not silent. Adds the bit rates to the columns of its `chunks`.
        split: The split that was measured.
        code_size: Number of codes per codebook; 0 for real latents.
        seconds: Length of a chunk.
    """
    chunks = found.chunks
    chunks.columns |= latent_rates(found.latents, code_size, seconds, ~chunks.silent)
    summary = {
        "split": split.name,
        "split_fingerprint": split.fingerprint,
        "chunks": len(chunks),
        "silent_chunks": int(chunks.silent.sum()),
        "interval_coverage": COVERAGE,
        **split_rows(found, split),
        "silent": silence(chunks),
        "latents": latents_in_use(chunks, found.latents, code_size, split),
        "levels": [{"known": known, **averages(own, split.samples)} for known, own in found.levels],
        **by_set(found, split),
        **by_channel(found, split),
        "recordings": by_recording(chunks, found.latents, code_size, split),
    }
    if found.speech is not None:
        # Both are in the order of the manifest.
        for row, values in zip(summary["recordings"], found.speech.values(), strict=True):
            row |= {name: none_if_nan(value) for name, value in values.items()}
        summary["speech"] = speech_averages(list(found.speech.values()))
    return summary


def by_set(found: Findings, split: Split) -> dict[str, Any]:
    """The reconstruction of each data set by its name, with its Fréchet distance; nothing where there is only one."""
    if len(split.sets) == 1:
        return {}
    chunks, rows = found.chunks, {}
    sets = split.set_of(chunks.indices)
    for number, one in enumerate(split.sets):
        here = sets == number
        if not here.any():
            continue
        loud = here & ~chunks.silent
        row = {"chunks": int(here.sum()), **averages(chunks.where(here), split.samples)}
        row["frechet"] = frechet(found.references[loud], chunks.columns["embedding"][loud])
        rows[one.name] = row
    return {"sets": rows}


def by_channel(found: Findings, split: Split) -> dict[str, Any]:
    """The reconstruction of each channel of stereo by its name; nothing for mono."""
    if split.channels == 1:
        return {}
    chunks, rows = found.chunks, {}
    for channel in CHANNELS:
        own = {name: chunks.columns[f"{channel}_{name}"] for name in BY_CHANNEL}
        rows[channel] = averages(replace(chunks, columns={"silent": chunks.columns["silent"], **own}), split.samples)
    return {"channels": rows}


def split_rows(found: Findings, split: Split) -> dict[str, Any]:
    """Rows of the reconstruction, the floors and the samples, with Fréchet distances to the references."""
    chunks, samples = found.chunks, found.samples
    loud = ~chunks.silent
    references = found.references[loud]
    groups, over = grouping(chunks.sources[loud], chunks.starts[loud], split.samples)

    def row(measured: Measured) -> dict[str, Any]:
        result = averages(measured, split.samples)
        own = measured.columns["embedding"][loud]
        result["frechet"] = frechet(references, own)
        result["intervals"]["frechet"] = frechet_interval(references, own, groups)
        return result

    return {
        "reconstruction": row(chunks),
        "floors": {name: row(floor) for name, floor in found.floors.items()},
        "samples": {"count": len(samples), "temperature": 1.0, "frechet": frechet(references, samples)},
        "frechet": {
            "embedding": EMBEDDING,
            "references": len(references),
            "noise_floor": noise_floor(references, groups),
            "noise_floor_over": over,
        },
    }
