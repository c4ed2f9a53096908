"""Measures of models and other codes on the same passages, as rows and as a Markdown table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.trials.trial import Result, TrialError

MEASURES = ("kbit_per_second", "si_sdr", "mel", "stft", "level_error_high", "zimtohrli", "visqol")
HEADINGS = ("kbit/s", "SI-SDR, dB", "mel", "STFT", "dB > 4 kHz", "Zimtohrli", "ViSQOL")


def of_files(result: Result) -> dict[str, Any]:
    """The measures of a model's files of held-out passages; raises TrialError if there are none."""
    for row in result.summary["passages"]["rows"]:
        if row["kind"] == "file":
            return row
    raise TrialError(f"{result.folder}: the report has no measures of files; remove its folder report, and call again")


def model_row(name: str, results: Sequence[Result], measured: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The row of a model that was trained once or with several seeds.

    Measures are those of its files on the passages, as means over the seeds, with the smallest and the largest mel
    distance as `mel_range`. They are in the reports, unless they are given as `measured`.
    """
    measured = measured or [of_files(result) for result in results]
    row: dict[str, Any] = {"name": name, "M": results[0].parameters / 1e6, "seeds": len(results)}
    row["steps"] = int(np.mean([result.steps for result in results]))
    row["seconds"] = float(np.mean([result.seconds for result in results]))
    row |= {key: _mean([each.get(key) for each in measured]) for key in MEASURES}
    mels = [each["mel"] for each in measured]
    return row | {"mel_range": [min(mels), max(mels)]}


def other_codes(result: Result) -> list[dict[str, Any]]:
    """The rows of the codes that a model was compared with."""
    return [row for row in result.summary["passages"]["rows"] if row["kind"] not in ("model", "file")]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def markdown(rows: Sequence[dict[str, Any]], extra: tuple[str, str] | None = None) -> str:
    """The rows as a table; measures without any value are left out.

    Args:
        rows: Of models and other codes.
        extra: Key and heading of a further column of words, after the number of parameters.
    """
    shown = [(key, heading) for key, heading in zip(MEASURES, HEADINGS, strict=True) if _is_known(rows, key)]
    heads = ["", "M", *([extra[1]] if extra else []), "seeds", "steps", "seconds", *(heading for _, heading in shown)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [row["name"], _cell(row.get("M")), *([row.get(extra[0]) or ""] if extra else [])]
        cells += [str(row.get("seeds") or ""), str(row.get("steps") or "")]
        cells += [f"{row['seconds']:.0f}" if "seconds" in row else "", *(_cell(row.get(key)) for key, _ in shown)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _is_known(rows: Sequence[dict[str, Any]], key: str) -> bool:
    return any(row.get(key) is not None for row in rows)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
