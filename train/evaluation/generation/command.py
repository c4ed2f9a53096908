"""`python -m train evaluate RUN_DIR --data DATA` for the run of a prior: what it generates, beside held-out recordings.

Under a launcher, all processes share the recordings, and the main process writes the report.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from audiovae import Autoencoder, ModelError, Prior, generate_recordings, load_prior, reconstruct_recording
from audiovae.recordings.generated import check_drawing
from shards import Split
from shards.files import make_folder, remove_file, remove_leftovers, write_atomically
from shards.text import printable
from train.errors import TrainError
from train.evaluation.generation.card import update_card
from train.evaluation.generation.lineage import is_what_was_encoded, labels_in_turn
from train.evaluation.generation.page import sounds_to_hear, write_page
from train.evaluation.generation.references import (
    groups_of,
    held_out_windows,
    passage_audio,
    passages_of,
    training_chunks,
)
from train.evaluation.generation.sounds import Shape, drawn_without_prior, make_pieces
from train.evaluation.generation.summary import Sets, csv_text, measures_of
from train.evaluation.generation.table import print_summary
from train.evaluation.measuring.heldout import misfit, open_audio, spread
from train.evaluation.measuring.summary_file import summary_text
from train.evaluation.report.evaluated import check_folder, outermost, place_of_report, warn_of_earlier_report
from train.parallel.engine import Engine
from train.runs.latest_model import check_device, chosen_weights
from train.runs.run_folder import RunDir

# Format number of metrics.json of priors. It increases when a field changes its meaning or is removed.
FORMAT = 1
PIECES, SECONDS, TEMPERATURE = 8, 10.0, 1.0
# Recordings that are generated at once.
TOGETHER = 4
# Audio of all pieces together, which every process holds.
MOST_SECONDS = 3600.0


@dataclass(frozen=True)
class Opened:
    """What an evaluation needs.

    Attributes:
        run: The run.
        prior, autoencoder: Its model, and the autoencoder whose latents that models.
        split, training: The held-out recordings, and the training chunks of the same data set if it has any.
        shape: The length of pieces and windows.
        encoded: Whether this data set was encoded for the prior; None if that is unknown.
    """

    run: RunDir
    prior: Prior
    autoencoder: Autoencoder
    split: Split
    training: Split | None
    shape: Shape
    encoded: bool | None


def evaluate_prior(settings: Any, engine: Engine) -> None:
    """Evaluates the run of a prior and writes its report; with `--out`, the run folder does not change."""
    source = engine.on_main(lambda: chosen_weights(RunDir.open(settings.run_dir), settings.checkpoint))
    folder, own = place_of_report(settings, source)
    engine.on_main(lambda: check_folder(folder, own))
    opened = engine.everywhere(lambda: open_all(settings, engine, source))
    if engine.is_main:
        warn_of_earlier_report(folder, opened.split)
    temperature = TEMPERATURE if settings.temperature is None else settings.temperature
    pieces = settings.pieces or PIECES
    labels = engine.on_main(lambda: labels_in_turn(opened.run, opened.prior.latents.labels, pieces))
    sets = make_sets(engine, opened, pieces, temperature, labels)
    about = {
        "format": FORMAT,
        "run": opened.run.name,
        "family": opened.run.family,
        "model": source.name,
        "autoencoder": {"family": opened.autoencoder.family, "fingerprint": opened.prior.latents.model},
        "data": str(settings.data),
        "split": opened.split.name,
        "split_fingerprint": opened.split.fingerprint,
        "encoded": opened.encoded,
        "recordings": len(np.unique(opened.split.keys()[0])),
        "temperature": temperature,
        **({"labels": labels} if labels else {}),
    }
    engine.everywhere(lambda: write_report(folder, opened, sets, about, own) if engine.is_main else None)
    engine.wait_for_all()


def open_all(settings: Any, engine: Engine, source: Path) -> Opened:
    """Opens the run, its model, and the data set; raises TrainError if they do not fit together."""
    if settings.data is None:
        raise TrainError(
            f"{settings.run_dir}: a prior is measured against recordings, and its own data are latents; pass --data "
            "DIR with the data set that was encoded"
        )
    if settings.split == "train":
        raise TrainError("--split train: the prior has learned from these recordings; name a split that is held out")
    data = str(settings.data)
    try:
        seconds = SECONDS if settings.seconds is None else settings.seconds
        check_drawing(seconds, TEMPERATURE if settings.temperature is None else settings.temperature)
        device = engine.device_for(settings.device)
        check_device(device)
        prior, autoencoder = load_prior(source, settings.autoencoder, device)
    except ModelError as error:
        raise TrainError(str(error)) from None
    split = open_audio(data, settings.split, autoencoder.samples)
    if seconds * (settings.pieces or PIECES) > MOST_SECONDS:
        raise TrainError(f"--pieces times --seconds is more than {MOST_SECONDS:g} s of audio: lower one of them")
    if problem := misfit(split, autoencoder, "but the autoencoder takes"):
        raise TrainError(f"{settings.data}: {problem}; pass the data set that was encoded with --data DIR")
    shape = Shape(split.samples, split.rate, round(seconds * split.rate))
    if not shape.count:
        raise TrainError(f"--seconds {seconds:g}: shorter than a chunk of the data set ({shape.seconds:.3g} s)")
    has_training = bool(split.manifest.splits.get("train"))
    training = open_audio(data, "train", autoencoder.samples) if has_training else None
    run = RunDir.open(settings.run_dir)
    return Opened(run, prior, autoencoder, split, training, shape, is_what_was_encoded(run, split))


def make_sets(engine: Engine, opened: Opened, pieces: int, temperature: float, labels: list[str | None] | None) -> Sets:
    """Generates recordings and all that they are compared with; the same result on every process.

    `labels` are those of the generated recordings, if the prior has labels.
    """
    shape, split, autoencoder = opened.shape, opened.split, opened.autoencoder
    seconds = shape.length / shape.rate
    passages = passages_of(*split.keys(), shape)
    groups, over = groups_of(passages)
    chosen = spread(len(passages), pieces)
    originals = [passages[i] for i in chosen]
    # Below 0: no group of a made piece is that of a recording.
    own = -1 - np.arange(pieces)

    def generated(numbers: list[int]) -> list[Tensor]:
        label = [labels[i] for i in numbers] if labels else None
        return generate_recordings(opened.prior, autoencoder, numbers, seconds, temperature, label=label)

    def reconstructed(numbers: list[int]) -> list[Tensor]:
        return [reconstruct_recording(autoencoder, passage_audio(split, originals[i], shape)) for i in numbers]

    held_out = held_out_windows(engine, split, passages, groups, shape)
    if not len(held_out):
        raise TrainError(f"{split.where}: all recordings of the split '{split.name}' are silent: nothing to measure")
    device = next(autoencoder.parameters()).device
    return Sets(
        shape=shape,
        generated=make_pieces(engine, "generated recordings", own, shape, generated, TOGETHER),
        without=drawn_without_prior(engine, autoencoder, shape, own),
        reconstructed=make_pieces(engine, "reconstructions", groups[chosen], shape, reconstructed),
        originals=originals,
        held_out=held_out,
        training=training_chunks(engine, opened.training, device) if opened.training else None,
        over=over,
    )


def write_report(folder: Path, opened: Opened, sets: Sets, about: dict[str, Any], own: bool) -> None:
    """Writes all files of the report atomically, metrics.json last: if it exists, the report is complete.

    If the report is the run's `own` and the run has finished, its model card gets the measures.
    """
    near = sets.nearest()
    summary = about | measures_of(sets, near)
    heard = sounds_to_hear(sets, near, opened.split, opened.training, about.get("labels"))
    inside = outermost(folder, opened.run)
    make_folder(folder, inside)
    remove_leftovers(folder)
    # Deleted first, so that an interrupted evaluation never looks like a complete report.
    remove_file(folder / "metrics.json", inside)
    windows = csv_text(sets, near, opened.training)
    write_atomically(folder / "metrics.csv", windows, inside)
    write_page(folder, opened.run, opened.prior, opened.split, summary, heard, inside)
    write_atomically(folder / "metrics.json", summary_text(summary, windows), inside)
    print_summary(summary)
    if opened.run.finished_at is not None and own:
        print(printable(f"card:    {update_card(opened.run, opened.split, summary)}"))
    print(printable(f"report:  {folder / 'index.html'}"))
    print(printable(f"audio:   {folder / 'audio'} (the audio of the report as WAV files)"))
    print(printable(f"run:     {opened.run.path}"))
