"""`python -m train evaluate RUN_DIR`: measures held-out recordings and writes RUN_DIR/report/, or another folder.

Under a launcher, all processes share the chunks, and the main process writes the report.
"""

from pathlib import Path
from typing import Any

import numpy as np

from audiovae import Autoencoder
from shards import Split
from shards.files import make_folder, remove_file, remove_leftovers, write_atomically
from shards.text import printable
from train.errors import TrainError
from train.evaluation.before.differences import before_summary
from train.evaluation.before.earlier import Earlier, checkpoint_before, measure_earlier
from train.evaluation.before.examples import before_examples
from train.evaluation.generation.command import evaluate_prior
from train.evaluation.measuring.findings import Findings, measure_all
from train.evaluation.measuring.heldout import misfit, open_audio
from train.evaluation.measuring.speech import require_packages
from train.evaluation.measuring.summary import build_summary
from train.evaluation.measuring.summary_file import summary_text
from train.evaluation.measuring.tables import csv_text
from train.evaluation.report.evaluated import (
    check_folder,
    outermost,
    place_of_report,
    warn_of_earlier_report,
    write_evaluated,
)
from train.evaluation.report.terminal import print_summary
from train.evaluation.report.verdict import sent_row
from train.evaluation.sending.sent import measure_sent
from train.evaluation.yardsticks.comparing import Compared, compare_codes
from train.evaluation.yardsticks.perceptual import require_packages as require_perceptual_packages
from train.evaluation.yardsticks.rows import by_source, passages_csv, passages_summary
from train.parallel.engine import Engine, is_lost_peer
from train.runs.latest_model import chosen_weights, is_training_data, load_weights
from train.runs.model_facts import write_measures_to_card
from train.runs.run_folder import RunDir

# Format number of metrics.json. It increases when a field changes its meaning or is removed; format 1 had no number.
FORMAT = 2
# Best, median and worst examples each.
EXAMPLES = 3
PRIOR = "prior"
# Flags for runs of one kind alone, without a value unless they are given.
OF_AUTOENCODERS = ("examples", "speech", "perceptual", "no_yardsticks", "no_before")
OF_PRIORS = ("autoencoder", "pieces", "seconds", "temperature")


def evaluate(settings: Any, engine: Engine) -> int:
    """Evaluates a run and writes its report; with `--out`, the run folder does not change. Returns the exit code."""
    try:
        family = engine.on_main(lambda: family_of(settings))
        measure = evaluate_prior if family == PRIOR else evaluate_autoencoder
        measure(settings, engine)
    except RuntimeError as error:
        if engine.world > 1 and is_lost_peer(error):
            raise TrainError(
                "another process of this evaluation ended; see its error and run the command again"
            ) from None
        raise
    return 0


def family_of(settings: Any) -> str:
    """The family of the run; raises TrainError if a flag is for runs of another kind."""
    run = RunDir.open(settings.run_dir)
    kind, flags = ("autoencoders", OF_AUTOENCODERS) if run.family == PRIOR else ("priors", OF_PRIORS)
    for name in flags:
        value = getattr(settings, name)
        if value is not None and value is not False:
            flag = name.replace("_", "-")
            raise TrainError(f"--{flag} is for runs of {kind}, and {run.path} is of the family '{run.family}'")
    return run.family


def evaluate_autoencoder(settings: Any, engine: Engine) -> None:
    """Measures what an autoencoder makes of held-out recordings."""
    # A running training saves and deletes checkpoints, so one process selects the weights for all.
    source, path_before = engine.on_main(lambda: sources_of(settings))
    folder, own = place_of_report(settings, source)
    engine.on_main(lambda: check_folder(folder, own))
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
    count = settings.examples or EXAMPLES
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
            summary = write_report(folder, run, model, split, about, (found, compared, earlier), count)
            if own:
                update_card(run, split, summary)

        engine.everywhere(write)
    else:
        engine.everywhere(lambda: None)
    engine.wait_for_all()


def sources_of(settings: Any) -> tuple[Path, Path | None]:
    """The weights to measure, and the checkpoint from before the adversarial phase to compare them with, if any."""
    run = RunDir.open(settings.run_dir)
    source = chosen_weights(run, settings.checkpoint)
    return source, None if settings.no_before else checkpoint_before(run, source.name)


def open_run(settings: Any, engine: Engine, source: Path) -> tuple[RunDir, Autoencoder, str, Split]:
    """Opens the run, its model with these weights, the path of the data, and the split to measure."""
    run = RunDir.open(settings.run_dir)
    if settings.speech:
        require_packages()
    if settings.perceptual:
        require_perceptual_packages()
    model = load_weights(source, engine.device_for(settings.device))
    data = str(settings.data or run.config["data.path"])
    split = open_audio(data, settings.split, model.samples)
    if problem := misfit(split, model, "but the model was trained on"):
        raise TrainError(f"{data}: {problem}; pass other shards with --data DIR")
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
    print(printable(f"card:    {write_measures_to_card(run, split, summary, sent_row(summary))}"))
