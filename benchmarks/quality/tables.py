"""The measurements as a Markdown table."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.trials.data import SOURCES
from benchmarks.trials.trial import Result

MEASURES = ("si_sdr", "stft", "mel", "mse", "cosine")


def row_of(name: str, result: Result) -> dict[str, Any]:
    """The row of a model: measures over all held-out chunks and the SI-SDR of each kind of recording."""
    all_chunks = result.summary["reconstruction"]
    row: dict[str, Any] = {"model": name, "M": result.parameters / 1e6}
    row |= {measure: all_chunks.get(measure) for measure in MEASURES}
    for kind in SOURCES:
        own = [r for r in result.summary["recordings"] if r["path"].startswith(f"{kind}/") and r["si_sdr"] is not None]
        if own:
            row[kind] = float(np.average([r["si_sdr"] for r in own], weights=[r["chunks"] for r in own]))
    row |= {"steps": result.steps, "steps/s": result.steps / result.seconds, "minutes": result.seconds / 60}
    return row


def markdown(results: Mapping[str, Result]) -> str:
    """A table with one row per trial, and one of silence as the floor."""
    rows = [row_of(name, result) for name, result in results.items()]
    for result in list(results.values())[:1]:
        floor = result.summary["floors"]["silence"]
        rows.append({"model": "silence", **{measure: floor.get(measure) for measure in MEASURES}})
    columns = ["model", "M", *MEASURES, *SOURCES, "steps", "steps/s", "minutes"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [row.get(column) for column in columns]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
