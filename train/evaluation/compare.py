"""`python -m train compare RUN_DIR RUN_DIR ...`: evaluated runs beside each other, on one page."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiovae import Autoencoder
from shards import DataError, Split
from shards.chunk import parse_name
from shards.files import check_place, make_folder, read_file, read_lines, remove_file, write_atomically
from train.errors import TrainError
from train.evaluation.measuring.heldout import to_audio
from train.evaluation.measuring.picking import Picker, extremes
from train.evaluation.report.comparison import KINDS, Compared, Comparison, Heard, difference_text, write_comparison
from train.evaluation.report.examples import mono
from train.evaluation.report.measures import mean_use
from train.evaluation.report.sounds import write_wav
from train.evaluation.report.terminal import print_table
from train.evaluation.statistics.paired import paired_difference
from train.runs.latest_model import load_weights, weights_of
from train.runs.run_folder import METRICS_FILE, RunDir

SUMMARY_FILE = "comparison.json"
# What a chunk itself is called beside the runs, so no run is.
REFERENCE = "reference"
# The least that a summary must have to be shown, and of what type.
NEEDED: dict[str, type] = {
    **dict.fromkeys(("family", "split", "data", "model"), str),
    "chunks": int,
    **dict.fromkeys(("reconstruction", "floors"), dict),
    **dict.fromkeys(("latents", "levels", "recordings"), list),
}


@dataclass
class Evaluated:
    """A run with its report: the summary as in metrics.json, and by chunk name its SI-SDR (NaN for silent ones)."""

    name: str
    run: RunDir
    summary: dict[str, Any]
    chunks: dict[str, float]


def compare(settings: Any) -> int:
    """Reads reports, lets the models be heard on the same chunks, writes the page; returns the exit code."""
    runs = [evaluated(path, name) for path, name in zip(settings.run_dirs, names_of(settings.run_dirs), strict=True)]
    out = settings.out
    check_folder(out)
    warnings = differences_of_data(runs)
    data = settings.data or runs[0].summary["data"]
    split = open_split(data, runs[0].summary["split"])
    models = {}
    alike = [same_chunks(one, runs[0]) for one in runs]
    for one in runs:
        source = weights_of(one.run)
        model = load_weights(source, settings.device)
        if (model.samples, model.rate) != (split.samples, split.rate):
            warnings.append(
                f"{one.name} takes chunks of {model.samples} samples at {model.rate} Hz, the data have {split.samples} "
                f"at {split.rate}: it cannot be heard here."
            )
            continue
        if source.name != one.summary["model"]:
            warnings.append(
                f"{one.name} is heard with the weights of {source.name}, its figures are those of "
                f"{one.summary['model']}: evaluate it again."
            )
        models[one.name] = model
    make_out(out)
    examples = [hear(*chosen, split, models, runs) for chosen in choose(runs, split, settings.examples)]
    rows = {one.name: row_of(one) for one in runs}
    for one, same in zip(runs[1:], alike[1:], strict=True):
        if same and (found := paired_difference(runs[0].chunks, one.chunks, split.samples)):
            rows[one.name]["si_sdr_difference"] = {"to": runs[0].name, "mean": found[0], "interval": found[1]}
    content = {"runs": rows, "warnings": warnings}
    # First of all: by this file the folder is known as ours, should this be ended before the page is there.
    write_atomically(out / SUMMARY_FILE, json.dumps(content, indent=1) + "\n")
    write_sounds(out, examples, split.rate)
    comparison = Comparison(
        runs=[
            Compared(one.name, one.run, one.summary, read_lines(one.run.path / METRICS_FILE), rows[one.name], same)
            for one, same in zip(runs, alike, strict=True)
        ],
        examples=examples,
        rate=split.rate,
        warnings=warnings,
        heard_on=f"{data}, split “{split.name}”",
    )
    write_comparison(out / "index.html", comparison)
    print_table(f"{len(rows)} runs on {kind_of(runs[0])} chunks", "run", rows, rated=True)
    for name, row in rows.items():
        if found := row.get("si_sdr_difference"):
            print(f"SI-SDR:  {name} against {found['to']}: {difference_text(found)}")
    for line in warnings:
        print(f"warning: {line}")
    print(f"page:    {out / 'index.html'}")
    print(f"audio:   {out / 'audio'} (the same chunks of all runs as WAV files)")
    return 0


def names_of(paths: list[Path]) -> list[str]:
    """Runs by the shortest ends of their paths that tell them apart.

    Raises:
        TrainError: for fewer than two runs, and for a run that is given twice.
    """
    if len(paths) < 2:
        raise TrainError("compare takes two runs or more: python -m train compare RUN_DIR RUN_DIR ...")
    whole = [path.resolve() for path in paths]
    for path in whole:
        if whole.count(path) > 1:
            raise TrainError(f"{path}: given twice; compare takes different runs")
    for length in range(1, max(len(path.parts) for path in whole) + 1):
        names = ["/".join(path.parts[-length:]) for path in whole]
        if len({*names, REFERENCE}) > len(names):
            break
    return names


def evaluated(path: Path, name: str) -> Evaluated:
    """A run and its report.

    Raises:
        TrainError: when it has none, or one that cannot be read.
    """
    run = RunDir.open(path)
    report = run.path / "report"
    again = f"run: python -m train evaluate {run.path}"
    try:
        summary = json.loads(read_file(report / "metrics.json"))
        for key, kind in NEEDED.items():
            if not isinstance(summary.get(key), kind):
                raise ValueError(f"no {key!r}")
        table = io.StringIO(read_file(report / "metrics.csv").decode(), newline="")
        chunks = {row["chunk"]: float(row["si_sdr"] or "nan") for row in csv.DictReader(table)}
    except FileNotFoundError:
        raise TrainError(f"{run.path}: not evaluated yet; {again}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainError(f"{report}: damaged, or of another version ({error}); {again}") from None
    return Evaluated(name, run, summary, chunks)


def check_folder(out: Path) -> None:
    """Raises TrainError when the folder holds something else than an earlier comparison, or links in its places."""
    for name in (SUMMARY_FILE, "index.html"):
        check_place(out / name)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / SUMMARY_FILE).exists())):
        raise TrainError(f"{out}: not a comparison and not empty; choose another folder with --out DIR")


def make_out(out: Path) -> None:
    """Raises TrainError when there can be no such folder."""
    try:
        make_folder(out / "audio", out)
    except OSError as error:
        raise TrainError(f"{out}: cannot be made ({error.strerror}); choose another folder with --out DIR") from None


def open_split(data: str, name: str) -> Split:
    """The chunks to be heard."""
    try:
        return Split.open(data, name)
    except DataError as error:
        raise TrainError(f"{error}; if the data is in another place now, give --data DIR") from None


def kind_of(one: Evaluated) -> str:
    """What the chunks on which a run was measured are to it: held-out or training ones."""
    return one.summary.get("kind", "held-out")


def differences_of_data(runs: list[Evaluated]) -> list[str]:
    """What makes figures of the runs differ for other reasons than the models: a sentence each."""
    first, *others = runs
    lines = []
    for one in runs:
        if one.run.finished_at is None:
            lines.append(f"{one.name} has not reached the end of its training.")
        if kind_of(one) == "training":
            lines.append(f"{one.name} was measured on the chunks it was trained on.")
    for one in others:
        if one.run.data_fingerprint != first.run.data_fingerprint:
            lines.append(f"{one.name} was trained on other data than {first.name}.")
        if not same_chunks(one, first):
            lines.append(
                f"{one.name} was measured on other chunks than {first.name}: their figures cannot be compared."
            )
    return lines


def same_chunks(one: Evaluated, other: Evaluated) -> bool:
    """Whether two runs were measured on the same chunks; by the names of these where a report notes no more."""
    prints = [each.summary.get("split_fingerprint") for each in (one, other)]
    if all(prints):
        return prints[0] == prints[1]
    return one.run.data_fingerprint == other.run.data_fingerprint and one.chunks.keys() == other.chunks.keys()


def was_measured_on(one: Evaluated, split: Split) -> bool:
    """Whether a run's figures are of these chunks: other data may have chunks of the same names."""
    return one.summary.get("split_fingerprint", split.fingerprint) == split.fingerprint


def choose(runs: list[Evaluated], split: Split, count: int) -> list[tuple[str, int, int]]:
    """Chunks to hear: kind, place and index; the easiest, middling and hardest ones, and where runs differ most.

    Judged by the runs that were measured on these chunks; spread evenly when there is none.
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
    if len(judges) > 1:  # others than those
        spans = np.ptp(table[:, loud], axis=0)
        kinds["differing"] = picker.take(loud[np.argsort(-spans, kind="stable")].tolist(), len(easy))
    return [(kind, place, int(i)) for kind, chosen in kinds.items() for place, i in enumerate(chosen, start=1)]


def hear(
    kind: str, place: int, index: int, split: Split, models: dict[str, Autoencoder], runs: list[Evaluated]
) -> Heard:
    """A chunk, what each model makes of it, and how that was measured."""
    name = split.names(np.array([index]))[0]
    source, start = parse_name(name)
    samples = split.read(np.array([index]))
    sounds = {REFERENCE: mono(to_audio(samples, torch.device("cpu")))}
    for run, model in models.items():
        sounds[run] = mono(model.reconstruct(to_audio(samples, next(model.parameters()).device)))
    judges = [one for one in runs if was_measured_on(one, split)]
    scores = {one.name: one.chunks[name] for one in judges if np.isfinite(one.chunks.get(name, np.nan))}
    return Heard(kind, place, split.manifest.sources[source].path, start / split.rate, sounds, scores)


def write_sounds(out: Path, examples: list[Heard], rate: int) -> None:
    """All sounds as exact WAV files, in a folder for each example; those of an earlier comparison go."""
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


def row_of(one: Evaluated) -> dict[str, Any]:
    """The figures of a run for the table."""
    own = {key: value for key, value in one.summary["reconstruction"].items() if not isinstance(value, dict)}
    return {"family": one.run.family, "chunks": one.summary["chunks"], **own, **mean_use(one.summary["latents"])}
