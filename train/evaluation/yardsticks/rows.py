"""Converts measures of passages to the part `passages` of metrics.json and to passages.csv."""

import csv
import io
from typing import Any

import numpy as np

from shards import Split
from shards.text import for_csv
from train.evaluation.measuring.tables import none_if_nan
from train.evaluation.yardsticks.comparing import BY_BAND, MEASURES, PERCEPTUAL, Compared, packed_rate
from train.evaluation.yardsticks.passages import for_visqol
from train.evaluation.yardsticks.perceptual import VISQOL_S


def nan_mean(values: np.ndarray) -> float | None:
    """The mean of the values that are not NaN; None without one."""
    there = values[~np.isnan(values)]
    return float(there.astype(np.float64).mean()) if len(there) else None


def passages_summary(compared: Compared, split: Split) -> dict[str, Any]:
    """The part `passages` of metrics.json: means of every code over the passages, each counted once."""
    seconds = np.array([passage.length for passage in compared.passages]) / split.rate
    rows = []
    for code, columns in zip(compared.codes, compared.columns, strict=True):
        row: dict[str, Any] = {"name": code.name, "kind": code.kind, **code.about}
        if code.kind in ("file", "opus"):
            row["kbit_per_second"] = packed_rate(columns, compared.passages, split)
        row |= {name: nan_mean(columns[name]) for name in (*MEASURES, *PERCEPTUAL) if name in columns}
        row |= {name: [nan_mean(band) for band in columns[name].T] for name in BY_BAND}
        rows.append(row)
    found: dict[str, Any] = {
        "count": len(compared.passages),
        "recordings": len({passage.source for passage in compared.passages}),
        "seconds": float(seconds.sum()),
        "band_edges_hz": compared.edges,
        "linear_from": compared.linear_from,
        "notes": compared.notes,
        "rows": rows,
    }
    if "visqol" in compared.columns[0]:
        found |= {"visqol_passages": len(for_visqol(len(compared.passages))), "visqol_seconds": VISQOL_S}
    return found


def by_source(compared: Compared) -> dict[int, dict[str, float | None]]:
    """Zimtohrli and ViSQOL by recording number, means over its passages; None without a value.

    Those of the model's files, where they were measured, else of the model's reconstructions.
    """
    kinds = [code.kind for code in compared.codes]
    own = compared.columns[kinds.index("file") if "file" in kinds else 0]
    sources = np.array([passage.source for passage in compared.passages])
    names = [name for name in PERCEPTUAL if name in own]
    return {
        int(source): {name: nan_mean(own[name][sources == source]) for name in names} for source in np.unique(sources)
    }


def passages_csv(compared: Compared, split: Split) -> str:
    """CSV with one line per passage and code; values that are not known are empty."""
    names = [name for name in (*MEASURES, *PERCEPTUAL) if name in compared.columns[0]]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["recording", "start_second", "seconds", "code", "kind", "kbit_per_second", *names])
    for place, passage in enumerate(compared.passages):
        path, seconds = split.manifest.sources[passage.source].path, passage.length / split.rate
        for code, columns in zip(compared.codes, compared.columns, strict=True):
            values = [columns["bits"][place] / seconds / 1000, *(columns[name][place] for name in names)]
            numbers = ["" if none_if_nan(value) is None else f"{value:.6g}" for value in values]
            about = [for_csv(path), f"{passage.first / split.rate:.10g}", f"{seconds:.6g}", code.name, code.kind]
            writer.writerow([*about, *numbers])
    return file.getvalue()
