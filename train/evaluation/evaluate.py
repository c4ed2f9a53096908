"""`python -m train evaluate RUN_DIR`: measures held-out recordings and writes RUN_DIR/report/, or another folder.

Under a launcher, all processes share the chunks, and the main process writes the report.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from audiovae import Autoencoder, ModelError
from audiovae.card import CARD_FILE, FACTS_FILE
from audiovae.output import check_output
from shards import DataError, Split
from shards.files import (
    UnsafePathError,
    check_place,
    make_folder,
    read_object,
    remove_file,
    remove_leftovers,
    write_atomically,
)
from shards.files import check_folder as check_real_folder
from shards.text import printable
from train.errors import TrainError
from train.evaluation.before.differences import before_summary
from train.evaluation.before.earlier import Earlier, checkpoint_before, measure_earlier
from train.evaluation.before.examples import before_examples
from train.evaluation.measuring.findings import Findings, measure_all
from train.evaluation.measuring.speech import require_packages
from train.evaluation.measuring.summary import build_summary
from train.evaluation.measuring.summary_file import LIMIT, summary_text
from train.evaluation.measuring.tables import csv_text
from train.evaluation.report.evaluated import outermost, write_evaluated
from train.evaluation.report.terminal import print_summary
from train.evaluation.sending.sent import measure_sent
from train.evaluation.yardsticks.comparing import Compared, compare_codes
from train.evaluation.yardsticks.perceptual import require_packages as require_perceptual_packages
from train.evaluation.yardsticks.rows import by_source, passages_csv, passages_summary
from train.parallel.engine import Engine, is_lost_peer
from train.runs.latest_model import is_training_data, load_weights, weights_of
from train.runs.model_facts import write_measures_to_card
from train.runs.run_folder import RunDir

# Format number of metrics.json. It increases when a field changes its meaning or is removed; format 1 had no number.
FORMAT = 2


def evaluate(settings: Any, engine: Engine) -> int:
    """Evaluates a run and writes its report; with `--out`, the run folder does not change. Returns the exit code."""
    try:
        # A running training saves and deletes checkpoints, so one process selects the weights for all.
        source, path_before = engine.on_main(lambda: sources_of(settings))
        folder = settings.out or Path(settings.run_dir) / "report"
        engine.on_main(lambda: check_folder(folder, own=settings.out is None))
        run, model, data, split = engine.everywhere(lambda: open_run(settings, engine, source))
        if engine.is_main:
            warn_of_earlier_report(folder, split)
        try:
            found = measure_all(engine, split, model, data, settings.speech, with_high=path_before is not None)
            compared = compare_codes(
                *(engine, split, model, data, found.chunks, found.latents),
                with_yardsticks=not settings.no_yardsticks,
                with_perceptual=settings.perceptual,
            )
        except TrainError as error:
            there = f"; {folder} holds an earlier evaluation" if (folder / "metrics.json").exists() else ""
            raise TrainError(f"{error}{there}") from None
        earlier = measure_earlier(engine, split, model, path_before, compared) if path_before else None
        sent = measure_sent(engine, split, model)
        if engine.is_main:
            about = {
                "format": FORMAT,
                "run": run.name,
                "family": run.family,
                "representation": run.config.get("model.representation.kind", "waveform"),
                "model": source.name,
                "data": data,
                "kind": kind_of(run, split),
                "sent": sent,
            }

            def write() -> None:
                summary = write_report(folder, run, model, split, about, (found, compared, earlier), settings.examples)
                if settings.out is None:
                    update_card(run, split, summary)

            engine.everywhere(write)
        else:
            engine.everywhere(lambda: None)
        engine.wait_for_all()
    except RuntimeError as error:
        if engine.world > 1 and is_lost_peer(error):
            raise TrainError(
                "another process of this evaluation ended; see its error and run the command again"
            ) from None
        raise
    return 0


def sources_of(settings: Any) -> tuple[Path, Path | None]:
    """The weights to measure, and the checkpoint from before the adversarial phase to compare them with, if any."""
    run = RunDir.open(settings.run_dir)
    source = weights_of(run)
    return source, None if settings.no_before else checkpoint_before(run, source.name)


def check_folder(folder: Path, own: bool) -> None:
    """Raises TrainError if no report can be written there, or if it is not the run's `own` and holds other files.

    With `own` the model card of the run must be writable too.
    """
    places = [folder / name for name in ("metrics.json", "metrics.csv", "passages.csv", "index.html")]
    places += [folder.parent / "model" / name for name in (CARD_FILE, FACTS_FILE)] if own else []
    try:
        check_output(places[0])
        for place in places:
            check_place(place)
        check_real_folder(folder / "audio")
    except (ModelError, UnsafePathError) as error:
        raise TrainError(str(error)) from None
    if not own and folder.is_dir() and any(folder.iterdir()) and not (folder / "metrics.csv").exists():
        raise TrainError(f"{folder}: not a report and not empty; choose another folder with --out DIR")


def warn_of_earlier_report(folder: Path, split: Split) -> None:
    """Warns that a report on other chunks will be replaced; the evaluation can be repeated."""
    try:
        earlier = read_object(folder / "metrics.json", LIMIT)
        if earlier["split_fingerprint"] != split.fingerprint:
            what = f"split '{earlier['split']}' of {earlier['data']}"
            line = f"{folder}: replacing the report on {what}; to keep both, pass --out DIR"
            print(printable(line), file=sys.stderr)
    except (OSError, ValueError, KeyError, TypeError):
        return  # no earlier report, or none that can be read


def open_run(settings: Any, engine: Engine, source: Path) -> tuple[RunDir, Autoencoder, str, Split]:
    """Opens the run, its model with these weights, the path of the data, and the split to measure."""
    run = RunDir.open(settings.run_dir)
    if settings.speech:
        require_packages()
    if settings.perceptual:
        require_perceptual_packages()
    device = settings.device
    if device in ("auto", engine.device.type):  # each process has its own GPU
        device = str(engine.device) if engine.device.type == "cuda" else "cpu"
    model = load_weights(source, device)
    data = str(settings.data or run.config["data.path"])
    try:
        split = Split.open(data, settings.split)
    except DataError as error:
        raise TrainError(f"{error}; if the data has moved, pass --data DIR") from None
    if (split.samples, split.rate) != (model.samples, model.rate):
        raise TrainError(
            f"{data}: chunks of {split.samples} samples at {split.rate} Hz, but the model was trained on "
            f"{model.samples} at {model.rate} Hz; pass other shards with --data DIR"
        )
    return run, model, data, split


def kind_of(run: RunDir, split: Split) -> str:
    """Whether a split holds held-out or training chunks of a run."""
    return "training" if split.name == "train" or split.fingerprint == run.data_fingerprint else "held-out"


def write_report(
    folder: Path,
    run: RunDir,
    model: Autoencoder,
    split: Split,
    about: dict[str, Any],
    measured: tuple[Findings, Compared | None, Earlier | None],
    count: int,
) -> dict[str, Any]:
    """Writes all files of the report atomically, metrics.json last: if it exists, the report is complete."""
    found, compared, earlier = measured
    summary = about | build_summary(found, split, model.code_size, model.seconds)
    if compared:
        add_passages(summary, compared, split)
    heard = []
    if earlier:
        summary["before_phase"] = before_summary(earlier, found.chunks, found.references, compared, split)
        heard = before_examples(earlier, model, split, found.chunks, compared)
    inside = outermost(folder, run)
    make_folder(folder, inside)
    remove_leftovers(folder)
    # Deleted first, so that an interrupted evaluation never looks like a complete report.
    remove_file(folder / "metrics.json", inside)
    chunks = csv_text(found.chunks, split)
    write_atomically(folder / "metrics.csv", chunks, inside)
    if compared:
        write_atomically(folder / "passages.csv", passages_csv(compared, split), inside)
    else:
        remove_file(folder / "passages.csv", inside)
    write_evaluated(folder, run, model, split, summary, found.chunks, count, heard)
    write_atomically(folder / "metrics.json", summary_text(summary, chunks), inside)
    print_summary(summary)
    print(printable(f"report:  {folder / 'index.html'}"))
    print(printable(f"audio:   {folder / 'audio'} (the audio of the report as WAV files)"))
    print(printable(f"run:     {run.path}"))
    return summary


def add_passages(summary: dict[str, Any], compared: Compared, split: Split) -> None:
    """Adds the measures of passages, and those of each recording's passages to its row."""
    summary["passages"] = passages_summary(compared, split)
    found = by_source(compared)
    # Rows of recordings are in the order of the manifest.
    for source, row in zip(np.unique(split.keys()[0]), summary["recordings"], strict=True):
        row |= found.get(int(source), {})


def update_card(run: RunDir, split: Split, summary: dict[str, Any]) -> None:
    """Writes the measures to the model card if they are held-out measures of a finished model."""
    if run.finished_at is None or summary["kind"] != "held-out":
        return
    if summary["data"] != run.config["data.path"] and not is_training_data(run, split.manifest):
        print("card:    unchanged, because these are not the recordings held out from the training data")
        return
    print(printable(f"card:    {write_measures_to_card(run, split, summary)}"))
