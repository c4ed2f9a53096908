"""The league as a Markdown table: means over the seeds of each trunk, and the other codes on the same passages."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.league.plan import OURS, TRUNKS, better_rate, of_files
from benchmarks.trials.trial import Result

MEASURES = ("kbit_per_second", "si_sdr", "mel", "stft", "level_error_high", "zimtohrli", "visqol")
HEADINGS = ("kbit/s", "SI-SDR, dB", "mel", "STFT", "dB > 4 kHz", "Zimtohrli", "ViSQOL")


def rows_of(results: Mapping[str, Result], trunks: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """A row for each trunk that was measured, then one for each other code of the first one's evaluation.

    Measures of a trunk are those of its files on the passages, as means over the seeds at its better rate, with the
    smallest and the largest mel distance as `mel_range`.
    """
    rows: list[dict[str, Any]] = []
    for trunk in trunks:
        rate = better_rate(results, trunk)
        names = [name for seed in range(seeds) if (name := f"{trunk}-{rate}-{seed}") in results]
        if not names:
            continue
        measured = [of_files(results[name]) for name in names]
        row: dict[str, Any] = {"name": TRUNKS[trunk], "M": results[names[0]].parameters / 1e6, "rate": rate}
        row |= {"seeds": len(names), "steps": int(np.mean([results[name].steps for name in names]))}
        row["seconds"] = float(np.mean([results[name].seconds for name in names]))
        row |= {key: _mean(each.get(key) for each in measured) for key in MEASURES}
        mels = [each["mel"] for each in measured]
        row["mel_range"] = [min(mels), max(mels)]
        rows.append(row)
    others = next((name for name in [f"{OURS}-{better_rate(results, OURS)}-0", *results] if name in results), None)
    if others:
        rows += [row for row in results[others].summary["passages"]["rows"] if row["kind"] not in ("model", "file")]
    return rows


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table; measures without any value are left out."""
    shown = [(key, heading) for key, heading in zip(MEASURES, HEADINGS, strict=True) if _is_known(rows, key)]
    heads = ["", "M", "learning rate", "steps", "seconds", *(heading for _, heading in shown)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [row["name"], _cell(row.get("M")), row.get("rate") or "", str(row.get("steps") or "")]
        cells += [f"{row['seconds']:.0f}" if "seconds" in row else "", *(_cell(row.get(key)) for key, _ in shown)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _is_known(rows: Sequence[dict[str, Any]], key: str) -> bool:
    return any(row.get(key) is not None for row in rows)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
