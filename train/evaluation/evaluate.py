"""`python -m train evaluate RUN_DIR`: measures held-out recordings and writes RUN_DIR/report/, or another folder.

Under the launcher all processes measure, each chunk once, and the first one writes.
"""

import json
import sys
from pathlib import Path
from typing import Any

from audiovae import Autoencoder, ModelError
from audiovae.card import CARD_FILE, FACTS_FILE
from audiovae.output import check_output
from shards import DataError, Split
from shards.files import (
    UnsafePathError,
    check_place,
    make_folder,
    read_file,
    remove_file,
    remove_leftovers,
    write_atomically,
)
from shards.files import check_folder as check_real_folder
from train.errors import TrainError
from train.evaluation.measuring.findings import Findings, measure_all
from train.evaluation.measuring.speech import require_packages
from train.evaluation.measuring.summary import summarised
from train.evaluation.measuring.tables import csv_text
from train.evaluation.report.evaluated import write_evaluated
from train.evaluation.report.terminal import print_summary
from train.parallel.engine import Engine, is_lost_peer
from train.runs.latest_model import is_training_data, load_weights, weights_of
from train.runs.model_facts import write_measures_to_card
from train.runs.run_folder import RunDir

# Of metrics.json; 1 had no number. Grows when a field changes its meaning or goes.
FORMAT = 2


def evaluate(settings: Any, engine: Engine) -> int:
    """Measures, writes and says where; with `--out` nothing in the run's folder changes. Returns the exit code."""
    try:
        # A run in progress saves and deletes meanwhile: one process chooses for all.
        source = engine.on_main(lambda: weights_of(RunDir.open(settings.run_dir)))
        folder = settings.out or Path(settings.run_dir) / "report"
        engine.on_main(lambda: check_folder(folder, own=settings.out is None))
        run, model, data, split = engine.everywhere(lambda: opened(settings, engine, source))
        if engine.is_main:
            warn_of_earlier_report(folder, split)
        try:
            found = measure_all(engine, split, model, data, settings.speech)
        except TrainError as error:
            earlier = f"; {folder} is of an earlier evaluation" if (folder / "metrics.json").exists() else ""
            raise TrainError(f"{error}{earlier}") from None
        if engine.is_main:
            about = {
                "format": FORMAT,
                "run": run.name,
                "family": run.family,
                "representation": run.config.get("model.representation.kind", "waveform"),
                "model": source.name,
                "data": data,
                "kind": kind_of(run, split),
            }

            def write() -> None:
                summary = write_report(folder, run, model, split, about, found, settings.examples)
                if settings.out is None:
                    update_card(run, split, summary)

            engine.everywhere(write)
        else:
            engine.everywhere(lambda: None)
        engine.wait_for_all()
    except RuntimeError as error:
        if engine.world > 1 and is_lost_peer(error):
            raise TrainError(
                "another process of this evaluation ended, for a reason of its own; run it again"
            ) from None
        raise
    return 0


def check_folder(folder: Path, own: bool) -> None:
    """Raises TrainError when a report cannot be written there, or `own` is not set and it holds something else.

    With `own` the model card of the same run is to be written too.
    """
    places = [folder / name for name in ("metrics.json", "metrics.csv", "index.html")]
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
    """Says that a report on other chunks is about to be replaced; all reports can be made again."""
    try:
        earlier = json.loads(read_file(folder / "metrics.json"))
        if earlier["split_fingerprint"] != split.fingerprint:
            what = f"split '{earlier['split']}' of {earlier['data']}"
            print(f"{folder}: the report there, on {what}, is replaced; --out DIR keeps both", file=sys.stderr)
    except (OSError, ValueError, KeyError, TypeError):
        return  # there is none, or none that could be told


def opened(settings: Any, engine: Engine, source: Path) -> tuple[RunDir, Autoencoder, str, Split]:
    """The run, its model from these weights, and the place and the split of the data to measure on."""
    run = RunDir.open(settings.run_dir)
    if settings.speech:
        require_packages()
    device = settings.device
    if device in ("auto", engine.device.type):  # each process has a GPU of its own
        device = str(engine.device) if engine.device.type == "cuda" else "cpu"
    model = load_weights(source, device)
    data = str(settings.data or run.config["data.path"])
    try:
        split = Split.open(data, settings.split)
    except DataError as error:
        raise TrainError(f"{error}; if the data is in another place now, give --data DIR") from None
    if (split.samples, split.rate) != (model.samples, model.rate):
        raise TrainError(
            f"{data}: chunks of {split.samples} samples at {split.rate} Hz, but the model was trained on "
            f"{model.samples} at {model.rate}; give other shards with --data"
        )
    return run, model, data, split


def kind_of(run: RunDir, split: Split) -> str:
    """What the chunks of a split are to a run: held-out ones, or those that it was trained on."""
    return "training" if split.name == "train" or split.fingerprint == run.data_fingerprint else "held-out"


def write_report(
    folder: Path, run: RunDir, model: Autoencoder, split: Split, about: dict[str, Any], found: Findings, count: int
) -> dict[str, Any]:
    """Everything in the report's folder, each file whole or not at all; metrics.json last: then all is there."""
    summary = about | summarised(found, split, model.code_size, model.seconds)
    inside = run.path if folder.parent == run.path else folder
    make_folder(folder, inside)
    remove_leftovers(folder)
    # Gone until all is there: a report that was ended early is none, and no mixture of two.
    remove_file(folder / "metrics.json", inside)
    write_atomically(folder / "metrics.csv", csv_text(found.chunks, split), inside)
    write_evaluated(folder, run, model, split, summary, found.chunks, count, inside)
    write_atomically(folder / "metrics.json", json.dumps(summary, indent=1, allow_nan=False) + "\n", inside)
    print_summary(summary)
    print(f"report:  {folder / 'index.html'}")
    print(f"audio:   {folder / 'audio'} (all sounds of the report as WAV files)")
    print(f"run:     {run.path}")
    return summary


def update_card(run: RunDir, split: Split, summary: dict[str, Any]) -> None:
    """Puts the measures into the model's card where they are held-out ones of the finished model, and says so."""
    if run.finished_at is None or summary["kind"] != "held-out":
        return
    if summary["data"] != run.config["data.path"] and not is_training_data(run, split.manifest):
        print("card:    left as it is: these are other recordings than those held out from the training data")
        return
    print(f"card:    {write_measures_to_card(run, split, summary)}")
