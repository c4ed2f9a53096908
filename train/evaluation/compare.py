"""`python -m train compare RUN_DIR RUN_DIR ...`: compares evaluated runs on one page."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiovae import FAMILIES, Autoencoder
from shards import DataError, Split
from shards.chunk import parse_name
from shards.files import check_place, make_folder, remove_file, write_atomically
from shards.text import printable
from train.augment.recorded import crop_of
from train.errors import TrainError
from train.evaluation.measuring.heldout import misfit, open_windows, read_audio
from train.evaluation.measuring.picking import Picker, extremes
from train.evaluation.measuring.summary_file import CHUNKS, read_chunks, read_summary
from train.evaluation.report.comparison import (
    KINDS,
    ComparedRun,
    Comparison,
    ExampleChunk,
    difference_text,
    write_comparison,
)
from train.evaluation.report.measures import LEVEL_ERROR, PERCEPTUAL, is_number, mean_use
from train.evaluation.report.sounds import to_host, write_wav
from train.evaluation.report.terminal import print_table
from train.evaluation.report.verdict import sent_row
from train.evaluation.statistics.paired import paired_difference
from train.runs.latest_model import load_weights, weights_of
from train.runs.lines import read_points
from train.runs.run_folder import METRICS_FILE, RunDir

SUMMARY_FILE = "comparison.json"
# The name of the original chunk next to the runs; no run may have this name.
REFERENCE = "reference"
# Measures of passages that the table of runs shows too.
HEARD = tuple(measure.key for measure in (LEVEL_ERROR, *PERCEPTUAL))


@dataclass
class EvaluatedRun:
    """A run with its report: the content of metrics.json, and the SI-SDR by chunk name (NaN for silent chunks)."""

    name: str
    run: RunDir
    summary: dict[str, Any]
    chunks: dict[str, float]


def compare(settings: Any) -> int:
    """Reads the reports, reconstructs the same chunks with all models, writes the page; returns the exit code."""
    runs = [read_report(path, name) for path, name in zip(settings.run_dirs, names_of(settings.run_dirs), strict=True)]
    out = settings.out
    check_folder(out)
    warnings = differences_of_data(runs)
    data = settings.data or runs[0].summary["data"]
    split = open_split(data, runs[0])
    comparable = [same_chunks(one, runs[0]) for one in runs]
    models, mismatches = load_models(runs, split, settings.device)
    warnings += mismatches
    make_out(out)
    examples = [
        reconstruct_chunk(*chosen, split, models, runs) for chosen in choose_chunks(runs, split, settings.examples)
    ]
    rows = {one.name: table_row(one) for one in runs}
    for one, same in zip(runs[1:], comparable[1:], strict=True):
        if same and (found := paired_difference(runs[0].chunks, one.chunks, split.samples)):
            rows[one.name]["si_sdr_difference"] = {"to": runs[0].name, "mean": found[0], "interval": found[1]}
    content = {"runs": rows, "warnings": warnings}
    # Written first: this file marks the folder as a comparison, even if the command is stopped before the page exists.
    write_atomically(out / SUMMARY_FILE, json.dumps(content, indent=1) + "\n")
    write_sounds(out, examples, split.rate)
    comparison = Comparison(
        runs=[
            ComparedRun(one.name, one.run, one.summary, read_points(one.run.path / METRICS_FILE), rows[one.name], same)
            for one, same in zip(runs, comparable, strict=True)
        ],
        examples=examples,
        rate=split.rate,
        warnings=warnings,
        examples_from=f"{data}, split “{split.name}”",
    )
    write_comparison(out / "index.html", comparison)
    print_table(f"{len(rows)} runs on {kind_of(runs[0])} chunks", "run", rows, rated=True)
    for name, row in rows.items():
        if found := row.get("si_sdr_difference"):
            print(printable(f"SI-SDR:  {name} against {found['to']}: {difference_text(found)}"))
    for line in warnings:
        print(printable(f"warning: {line}"))
    print(printable(f"page:    {out / 'index.html'}"))
    print(printable(f"audio:   {out / 'audio'} (WAV files of the same chunks for all runs)"))
    return 0


def load_models(runs: list[EvaluatedRun], split: Split, device: str) -> tuple[dict[str, Autoencoder], list[str]]:
    """Loads the models that take chunks of this split, by run name; and returns warnings, one sentence each."""
    models: dict[str, Autoencoder] = {}
    warnings: list[str] = []
    for one in runs:
        source = weights_of(one.run)
        model = load_weights(source, device)
        if problem := misfit(split, model, "but it takes"):
            warnings.append(f"The examples leave out {one.name}: the data has {problem}.")
            continue
        if source.name != one.summary["model"]:
            warnings.append(
                f"The audio of {one.name} uses the weights {source.name}, but its measures are those of "
                f"{one.summary['model']}: evaluate it again."
            )
        models[one.name] = model
    return models, warnings


def names_of(paths: list[Path]) -> list[str]:
    """Names of runs: the shortest ends of their paths that differ.

    Raises:
        TrainError: for fewer than two runs, and for a run that is named twice.
    """
    if len(paths) < 2:
        raise TrainError("compare needs two or more runs: python -m train compare RUN_DIR RUN_DIR ...")
    whole = [path.resolve() for path in paths]
    for path in whole:
        if whole.count(path) > 1:
            raise TrainError(f"{path}: named twice; compare needs different runs")
    for length in range(1, max(len(path.parts) for path in whole) + 1):
        names = ["/".join(path.parts[-length:]) for path in whole]
        if len({*names, REFERENCE}) > len(names):
            break
    return names


def read_report(path: Path, name: str) -> EvaluatedRun:
    """Reads a run and its report.

    Raises:
        TrainError: if there is no report, or it cannot be read.
    """
    run = RunDir.open(path)
    if run.family not in FAMILIES:
        raise TrainError(f"{run.path}: holds a {run.family}, and compare is for autoencoders; see its own report")
    report = run.path / "report"
    again = f"run: python -m train evaluate {run.path}"
    try:
        summary = read_summary(report / "metrics.json")
        chunks = read_chunks(report / "metrics.csv", summary.get(CHUNKS))
    except FileNotFoundError:
        raise TrainError(f"{run.path}: not evaluated yet; {again}") from None
    except ValueError as error:
        raise TrainError(f"{report}: damaged, or from another version ({error}); {again}") from None
    return EvaluatedRun(name, run, summary, chunks)


def check_folder(out: Path) -> None:
    """Raises TrainError if the folder holds anything but an earlier comparison, or links in place of its files."""
    for name in (SUMMARY_FILE, "index.html"):
        check_place(out / name)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / SUMMARY_FILE).exists())):
        raise TrainError(f"{out}: not a comparison and not empty; choose another folder with --out DIR")


def make_out(out: Path) -> None:
    """Creates the folder; raises TrainError if that fails."""
    try:
        make_folder(out / "audio", out)
    except OSError as error:
        raise TrainError(f"{out}: cannot be created ({error.strerror}); choose another folder with --out DIR") from None


def open_split(data: str, one: EvaluatedRun) -> Split:
    """Opens the split of the examples, as a run took its chunks; raises TrainError if it cannot be read."""
    try:
        return open_windows(data, one.summary["split"], crop_of(one.run.config))
    except ValueError as error:
        raise TrainError(f"{one.run.path}/run.json: {error}; the file may have been edited") from None
    except DataError as error:
        raise TrainError(f"{error}; if the data has moved, pass --data DIR") from None


def kind_of(one: EvaluatedRun) -> str:
    """Whether a run was measured on held-out or on training chunks."""
    return one.summary.get("kind", "held-out")


def differences_of_data(runs: list[EvaluatedRun]) -> list[str]:
    """Sentences on differences between the runs other than their models: data, chunks, unfinished training."""
    first, *others = runs
    lines = []
    for one in runs:
        if one.run.finished_at is None:
            lines.append(f"{one.name} has not finished training.")
        if kind_of(one) == "training":
            lines.append(f"{one.name} was measured on the chunks it was trained on.")
    for one in others:
        if one.run.data_fingerprint != first.run.data_fingerprint:
            lines.append(f"{one.name} was trained on different data than {first.name}.")
        if not same_chunks(one, first):
            lines.append(
                f"{one.name} was measured on different chunks than {first.name}: their measures cannot be compared."
            )
    return lines


def same_chunks(one: EvaluatedRun, other: EvaluatedRun) -> bool:
    """Whether two runs were measured on the same chunks, by fingerprint, or by chunk names for older reports."""
    prints = [each.summary.get("split_fingerprint") for each in (one, other)]
    if all(prints):
        return prints[0] == prints[1]
    return one.run.data_fingerprint == other.run.data_fingerprint and one.chunks.keys() == other.chunks.keys()


def was_measured_on(one: EvaluatedRun, split: Split) -> bool:
    """Whether a run was measured on this split; other data may have chunks with the same names."""
    return one.summary.get("split_fingerprint", split.fingerprint) == split.fingerprint


def choose_chunks(runs: list[EvaluatedRun], split: Split, count: int) -> list[tuple[str, int, int]]:
    """Selects example chunks as (kind, place, index): easy, medium and hard ones, and those where runs differ most.

    Uses the SI-SDR of the runs that were measured on this split. Without such a run, chunks are spread evenly.
    """
    names = split.names(np.arange(len(split)))
    judges = [one.chunks for one in runs if was_measured_on(one, split) and one.chunks.keys() == {*names}]
    if not judges:
        spread = np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)
        return [("chunk", place, int(index)) for place, index in enumerate(spread, start=1)]
    table = np.array([[judge[name] for name in names] for judge in judges])
    loud = np.flatnonzero(np.isfinite(table).all(0))
    ranked = loud[np.argsort(-table[:, loud].mean(0), kind="stable")].tolist()
    picker = Picker(*split.keys(), split.samples)
    easy, middling, hard = extremes(ranked, count, picker)
    kinds = {"easy": easy, "middling": middling, "hard": hard}
    if len(judges) > 1:  # none of the chunks above
        spans = np.ptp(table[:, loud], axis=0)
        kinds["differing"] = picker.take(loud[np.argsort(-spans, kind="stable")].tolist(), len(easy))
    return [(kind, place, int(i)) for kind, chosen in kinds.items() for place, i in enumerate(chosen, start=1)]


def reconstruct_chunk(
    kind: str, place: int, index: int, split: Split, models: dict[str, Autoencoder], runs: list[EvaluatedRun]
) -> ExampleChunk:
    """Reads a chunk, reconstructs it with each model, and adds the SI-SDR values of the reports."""
    name = split.names(np.array([index]))[0]
    source, start = parse_name(name)
    audio = read_audio(split, np.array([index]), torch.device("cpu"))
    sounds = {REFERENCE: to_host(audio[0])}
    for run, model in models.items():
        sounds[run] = to_host(model.reconstruct(audio.to(model.device))[0])
    measured = [one for one in runs if was_measured_on(one, split)]
    scores = {one.name: one.chunks[name] for one in measured if np.isfinite(one.chunks.get(name, np.nan))}
    return ExampleChunk(kind, place, split.manifest.sources[source].path, start / split.rate, sounds, scores)


def write_sounds(out: Path, examples: list[ExampleChunk], rate: int) -> None:
    """Writes all audio as WAV files, one folder per example, and deletes those of an earlier comparison."""
    make_folder(out / "audio", out)
    for kind in KINDS:
        for old in (out / "audio").glob(f"{kind}-[0-9]*/[0-9]*-*.wav"):
            remove_file(old, out)
    for example in examples:
        folder = out / "audio" / f"{example.kind}-{example.place}"
        make_folder(folder, out)
        for i, (name, audio) in enumerate(example.sounds.items()):
            file = f"{i}-{''.join(c if c.isalnum() or c in '._-' else '-' for c in name)}.wav"
            write_wav(folder / file, audio, rate, out)


def table_row(one: EvaluatedRun) -> dict[str, Any]:
    """The table row of a run."""
    own = {key: value for key, value in one.summary["reconstruction"].items() if not isinstance(value, dict)}
    heard = {name: value for name, value in sent_row(one.summary).items() if name in HEARD and is_number(value)}
    return {
        "family": one.run.family,
        "chunks": one.summary["chunks"],
        **own,
        **heard,
        **mean_use(one.summary["latents"]),
    }
