"""The page that compares runs: their measures in one table, shared charts, and audio of the same chunks."""

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
from train.evaluation.report.page import ExampleView, Forms, by_kind, compared, player
from train.evaluation.report.rendering import figure, render
from train.runs.forecast import duration
from train.runs.run_folder import RunDir
from train.runs.status import summary_of

KINDS = {
    "differing": "Where the runs differ most",
    "easy": "Easy for all",
    "middling": "Medium for all",
    "hard": "Hard for all",
    "chunk": "Chunks",
}
# Settings that only name a run or its folder.
NAMING = ("run_dir", "tracking.name")


@dataclass
class ExampleChunk:
    """A chunk and its reconstructions.

    Attributes:
        kind: A key of KINDS.
        place: Number within its kind, from 1.
        path: Path of its recording.
        start_s: Start in the recording, in seconds.
        sounds: Audio [T] or [2, T] float32 by name: the reference, then each run.
        scores: SI-SDR in dB by run, for runs that were measured on this chunk.
    """

    kind: str
    place: int
    path: str
    start_s: float
    sounds: dict[str, np.ndarray]
    scores: dict[str, float]


@dataclass
class ComparedRun:
    """A run: its name on the page, the summary of its report, its lines of metrics.jsonl, and its row of measures.

    `same_chunks` is true if it was measured on the same chunks as the first run.
    """

    name: str
    run: RunDir
    summary: dict[str, Any]
    points: list[dict[str, Any]]
    row: dict[str, Any]
    same_chunks: bool = True


@dataclass
class Comparison:
    """The content of the page.

    Attributes:
        runs: The runs, in the order of the command.
        examples: Chunks with audio.
        rate: Sample rate of all audio, in Hz.
        warnings: Sentences on what cannot be compared.
        examples_from: The data set and split of the examples.
    """

    runs: list[ComparedRun]
    examples: list[ExampleChunk]
    rate: int
    warnings: list[str]
    examples_from: str


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Writes the page atomically."""
    write_atomically(path, render("comparison.html", **template_variables(comparison)))


def template_variables(comparison: Comparison) -> dict[str, Any]:
    """The variables of the template."""
    runs, sounds = comparison.runs, sum(len(example.sounds) for example in comparison.examples)
    forms = Forms.for_many(sounds // 2)
    measures = columns([run.row for run in runs])
    rows = [run.row if run.same_chunks else {} for run in runs]  # other runs are not ranked
    kinds = by_kind(
        KINDS, comparison.examples, lambda example, ready: example_view(example, comparison.rate, forms, ready)
    )
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
        "examples_from": comparison.examples_from,
        "sound": forms.sound,
        "sections": curves_of_runs({run.name: run.points for run in runs}),
        "settings": different_settings(runs),
        "repeated_styles": len(runs) > STYLES,
    }


def best(measure: Measure, rows: list[dict[str, Any]]) -> list[int]:
    """Indices of the rows with the best value; empty if all are equal or the measure has no direction."""
    values = [(value, i) for i, row in enumerate(rows) if is_number(value := row.get(measure.key))]
    if measure.higher is None or len(values) < 2:
        return []
    top = (max if measure.higher else min)(value for value, _ in values)
    winning = [i for value, i in values if figure(value) == figure(top)]
    return winning if len(winning) < len(values) else []


def winners(measures: list[Measure], runs: list[ComparedRun], rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """For the headline: a measure, its best value, and the runs that reach it."""
    result = []
    for measure in measures:
        found = best(measure, rows)
        if found and measure.key in ("si_sdr", "stft", "mel"):
            names = ", ".join(runs[i].name for i in found)
            result.append((measure.heading, figure(runs[found[0]].row[measure.key]), names))
    return result


def difference_text(found: dict[str, Any] | None) -> str:
    """A paired difference of SI-SDR with its interval, in words; empty without one."""
    if not found:
        return ""
    text = f"{found['mean']:+.2f} dB"
    if not found["interval"]:
        return text
    low, high = found["interval"]
    return f"{text} ({low:+.2f} to {high:+.2f}){'' if low > 0 or high < 0 else ': may be chance'}"


def by_recording(runs: list[ComparedRun]) -> list[tuple[str, list[float | None]]]:
    """Mean SI-SDR of each recording by run (None for runs on other chunks); the lowest mean over runs comes first."""
    ranked = [run if run.same_chunks else None for run in runs]
    tables = [{row["path"]: row.get("si_sdr") for row in run.summary["recordings"]} if run else {} for run in ranked]
    rows = [(path, [table.get(path) for table in tables]) for path in tables[0]]
    return sorted(rows, key=lambda row: np.mean([value for value in row[1] if is_number(value)] or [math.inf]))


def state(run: RunDir) -> list[str]:
    """The state and steps of a run, its number of attempts, its duration, and its goodput."""
    found = summary_of(run, time.time())
    good = found["goodput"]
    spent = sum(attempt["ended"] - attempt["began"] for attempt in found["attempts"])
    return [
        f"{found['state']}, step {found['step']:,} of {found['steps']:,}",
        str(len(found["attempts"])),
        duration(spent),
        "—" if good is None else f"{100 * good:.1f} %",
    ]


def example_view(example: ExampleChunk, rate: int, forms: Forms, ready: bool) -> ExampleView:
    """The players, spectrograms and captions of one example."""
    name = f"{example.kind} example {example.place}"
    seconds = example.sounds["reference"].shape[-1] / rate
    scores = ", ".join(f"{run} {figure(score)} dB" for run, score in example.scores.items())
    return ExampleView(
        title=f"{name[0].upper()}{name[1:]}",
        anchor=f"{example.kind}-{example.place}",
        path=example.path,
        note=f"{seconds:.2f} s, starting at {example.start_s:.2f} s",
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


def different_settings(runs: list[ComparedRun]) -> list[tuple[str, list[str]]]:
    """Settings that differ between runs: the key, and the value of each run."""
    keys = dict.fromkeys(key for run in runs for key in run.run.config if key not in NAMING)
    rows = []
    for key in keys:
        values = [flag_value(run.run.config[key]) if key in run.run.config else "—" for run in runs]
        if len(set(values)) > 1:
            rows.append((key, values))
    if any(run.run.changes for run in runs):
        rows.append(("changes on the way", ["; ".join(map(str, run.run.changes)) or "none" for run in runs]))
    return rows
