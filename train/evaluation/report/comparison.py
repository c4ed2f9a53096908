"""The page of several runs: their figures in one table, their curves in the same charts, the same chunks to hear."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.files import write_atomically
from train.evaluation.drawing.charts import STYLES
from train.evaluation.drawing.curves import curves_of_runs
from train.evaluation.report.facts import flag_value
from train.evaluation.report.measures import Measure, columns, interval, is_number
from train.evaluation.report.page import OPEN, Forms, Shown, compared, player
from train.evaluation.report.rendering import figure, render
from train.runs.forecast import duration
from train.runs.run_folder import RunDir
from train.runs.status import summary_of

KINDS = {
    "differing": "Where the runs differ most",
    "easy": "Easy for all",
    "middling": "Middling",
    "hard": "Hard for all",
    "chunk": "Chunks",
}
# Settings that say where, not how.
PLACES = ("run_dir", "tracking.name")


@dataclass
class Heard:
    """A chunk, and by name what each run made of it.

    Attributes:
        kind: One of KINDS.
        place: Among its kind, from 1.
        path: The recording it is from.
        start_s: Where in the recording it begins.
        sounds: [T] float32 each, the reference first.
        scores: SI-SDR in dB by run, where it was measured on this chunk.
    """

    kind: str
    place: int
    path: str
    start_s: float
    sounds: dict[str, np.ndarray]
    scores: dict[str, float]


@dataclass
class Compared:
    """A run: its name on the page, its report's summary, its lines of metrics.jsonl, its row of figures.

    `alike` tells whether it was measured on the same chunks as the first one.
    """

    name: str
    run: RunDir
    summary: dict[str, Any]
    points: list[dict[str, Any]]
    row: dict[str, Any]
    alike: bool = True


@dataclass
class Comparison:
    """What the page shows.

    Attributes:
        runs: In the order in which they were given.
        examples: To hear.
        rate: Hz of all sounds.
        warnings: Sentences on what cannot be compared.
        heard_on: Where the chunks to hear are from.
    """

    runs: list[Compared]
    examples: list[Heard]
    rate: int
    warnings: list[str]
    heard_on: str


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Writes the page, whole or not at all."""
    write_atomically(path, render("comparison.html", **content(comparison)))


def content(comparison: Comparison) -> dict[str, Any]:
    """What the template takes."""
    runs, sounds = comparison.runs, sum(len(example.sounds) for example in comparison.examples)
    forms = Forms.for_many(sounds // 2)
    measures = columns([run.row for run in runs])
    rows = [run.row if run.alike else {} for run in runs]  # those that may be best
    kinds = []
    for kind, title in KINDS.items():
        mine = [example for example in comparison.examples if example.kind == kind]
        if mine:
            shown = [show(example, comparison.rate, forms, i < OPEN) for i, example in enumerate(mine)]
            kinds.append({"title": title, "first": shown[:OPEN], "more": shown[OPEN:]})
    return {
        "runs": runs,
        "columns": measures,
        "best": {measure.key: best(measure, rows) for measure in measures},
        "intervals": [
            {m.key: interval(run.summary, run.summary["reconstruction"], m.key) for m in measures} for run in runs
        ],
        "winners": winners(measures, runs, rows),
        "differences": [difference_text(run.row.get("si_sdr_difference")) for run in runs],
        "recordings": by_recording(runs),
        "states": [state(run.run) for run in runs],
        "warnings": comparison.warnings,
        "kinds": kinds,
        "heard_on": comparison.heard_on,
        "sound": forms.sound,
        "sections": curves_of_runs({run.name: run.points for run in runs}),
        "settings": different_settings(runs),
        "repeated_styles": len(runs) > STYLES,
    }


def best(measure: Measure, rows: list[dict[str, Any]]) -> list[int]:
    """The rows with the best value; none where no value is better than another."""
    values = [(value, i) for i, row in enumerate(rows) if is_number(value := row.get(measure.key))]
    if measure.higher is None or len(values) < 2:
        return []
    top = (max if measure.higher else min)(value for value, _ in values)
    winning = [i for value, i in values if figure(value) == figure(top)]
    return winning if len(winning) < len(values) else []


def winners(measures: list[Measure], runs: list[Compared], rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """For the headline: a measure, its best value, and who has it."""
    result = []
    for measure in measures:
        found = best(measure, rows)
        if found and measure.key in ("si_sdr", "stft", "mel"):
            names = ", ".join(runs[i].name for i in found)
            result.append((measure.heading, figure(runs[found[0]].row[measure.key]), names))
    return result


def difference_text(found: dict[str, Any] | None) -> str:
    """A paired difference of SI-SDR in words; empty without one."""
    if not found:
        return ""
    told = f"{found['mean']:+.2f} dB"
    if not found["interval"]:
        return told
    low, high = found["interval"]
    return f"{told} ({low:+.2f} to {high:+.2f}){'' if low > 0 or high < 0 else ': may be chance'}"


def by_recording(runs: list[Compared]) -> list[tuple[str, list[float | None]]]:
    """SI-SDR of each recording by run, of those on the same chunks; recordings that are hardest on the mean first."""
    judges = [run if run.alike else None for run in runs]
    tables = [{row["path"]: row.get("si_sdr") for row in run.summary["recordings"]} if run else {} for run in judges]
    rows = [(path, [table.get(path) for table in tables]) for path in tables[0]]
    return sorted(rows, key=lambda row: np.mean([value for value in row[1] if is_number(value)] or [math.inf]))


def state(run: RunDir) -> list[str]:
    """How a run stands: state, steps, attempts, time, goodput."""
    told = summary_of(run, time.time())
    good = told["goodput"]
    spent = sum(attempt["ended"] - attempt["began"] for attempt in told["attempts"])
    return [
        f"{told['state']}, step {told['step']:,} of {told['steps']:,}",
        str(len(told["attempts"])),
        duration(spent),
        "—" if good is None else f"{100 * good:.1f} %",
    ]


def show(example: Heard, rate: int, forms: Forms, ready: bool) -> Shown:
    """An example as the page has it."""
    name = f"{example.kind} example {example.place}"
    seconds = len(example.sounds["reference"]) / rate
    scores = ", ".join(f"{run} {figure(score)} dB" for run, score in example.scores.items())
    return Shown(
        title=f"{name[0].upper()}{name[1:]}",
        anchor=f"{example.kind}-{example.place}",
        path=example.path,
        note=f"{seconds:.2f} s from {example.start_s:.2f} s on",
        figures=f"SI-SDR: {scores}" if scores else "",
        players=[
            player(word, f"{word[0].upper()}{word[1:]}, {name}, file {example.path}", audio, rate, forms, ready)
            for word, audio in example.sounds.items()
        ],
        pictures=compared(example.sounds, rate, f"{name}, file {example.path}", forms.picture, with_difference=False),
        wide=False,
        seconds=seconds,
        top_khz=rate / 2000,
    )


def different_settings(runs: list[Compared]) -> list[tuple[str, list[str]]]:
    """Settings in which runs differ: the key, and a value for each run."""
    keys = dict.fromkeys(key for run in runs for key in run.run.config if key not in PLACES)
    rows = []
    for key in keys:
        values = [flag_value(run.run.config[key]) if key in run.run.config else "—" for run in runs]
        if len(set(values)) > 1:
            rows.append((key, values))
    return rows
