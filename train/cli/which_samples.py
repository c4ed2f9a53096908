"""`python -m train which-samples RUN_DIR --step S`: what a training step learned from."""

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shards import Batch, BatchStream, Cursor, DataError, Split
from shards.chunk import parse_name
from shards.files import make_folder, write_atomically
from shards.mixing.mixture import Mixture
from shards.reading.stream import schedule_of
from shards.text import printable
from train.augment.draws import seed_of_others
from train.augment.preparation import Preparation
from train.augment.recorded import augment_of, crop_of
from train.errors import TrainError
from train.runs.requeue import ATTEMPTS_FILE
from train.runs.run_folder import RunDir
from train.runs.settings_history import DATA, at_step

AT_ONCE = 64  # rows that are written together


def which_samples(settings: Any) -> int:
    """Prints the chunks of a step, and writes them as WAV files on request; returns the exit code."""
    run = RunDir.open(settings.run_dir)
    data = settings.data or run.config["data.path"]
    try:
        split = Split.open(data, "train")
    except DataError as error:
        raise TrainError(f"{error}; if the data has moved, pass --data DIR") from None
    then = at_step(run.record.settings, run.changes, settings.step)
    fingerprint = then[DATA]
    if split.fingerprint != fingerprint:
        known = f"step {settings.step} of this run was trained on data with the fingerprint {fingerprint}"
        remedy = "pass its folder as --data DIR, or several in their order"
        raise TrainError(f"{data}: other data ({split.fingerprint}); {known}; {remedy}")
    try:
        augment, crop = augment_of(then), crop_of(then)
        if crop > split.samples:
            raise ValueError("data.crop is longer than the chunks")
    except ValueError as error:
        raise TrainError(f"{run.path}/run.json: {error}; the file may have been edited") from None
    taken = batch_of_step(run, split, settings.step, mixed=bool(settings.wav and augment.mix))
    batch, preparation = taken.batch, Preparation(augment, crop, taken.seed, split)
    rows = rows_of(batch, split, preparation.places(batch, taken.done), crop)
    if settings.wav:
        write_wavs(taken, preparation, rows, split.rate, settings.wav)
    rows.sort(key=lambda row: row["row"])
    if settings.json:
        json.dump({"step": settings.step, "epoch": batch.cursor.epoch, "chunks": rows}, sys.stdout, indent=1)
        print()
    else:
        show(settings.step, batch, rows, crop, mixed=len(split.sets) > 1)
    return 0


@dataclass(frozen=True)
class Taken:
    """What a step took from the shards.

    Attributes:
        batch: The whole global batch.
        other: The chunks that are mixed in, if they were asked for.
        seed: The seed of the attempt.
        done: Steps done before this one.
    """

    batch: Batch
    other: Batch | None
    seed: int
    done: int


def batch_of_step(run: RunDir, split: Split, step: int, mixed: bool = False) -> Taken:
    """The global batch of a step, counted from 1 as in metrics.jsonl, as the last attempt consumed it.

    `mixed` is whether to read the chunks that are mixed in, too.

    Raises:
        TrainError: when the run has no step with this number.
    """
    if not 1 <= step <= run.config["optim.steps"]:
        raise TrainError(f"--step {step}: the steps of this run are 1 to {run.config['optim.steps']}")
    if count := run.damaged_lines().get(ATTEMPTS_FILE):
        what = "line is" if count == 1 else "lines are"
        told = f"warning: {run.path}/{ATTEMPTS_FILE}: {count:,} {what} damaged; the step may have had other chunks"
        print(printable(told), file=sys.stderr)
    starts = [start for start in run.starts() if start["step"] < step]
    if not starts:
        raise TrainError(f"{run.path}/attempts.jsonl: no attempt reached step {step}; the file may have been edited")
    start = starts[-1]
    split.check_batch(start["batch"], 1)
    size, seed = start["batch"], start["seed"]
    try:
        mixture = Mixture.from_json(start["mixture"]) if "mixture" in start else None
        if mixture is None and len(split.sets) > 1:
            raise ValueError("an attempt has no shares of its data sets")
        schedule = schedule_of(split, size, seed, mixture=mixture)
    except ValueError as error:
        raise TrainError(f"{run.path}/{ATTEMPTS_FILE}: {error}; the file may have been edited") from None
    cursor = schedule.after(Cursor(start["epoch"], start["consumed"]), step - 1 - start["step"])
    more: dict[str, Any] = {"cursor": cursor, "prefetch": 1, "memory": 0, "mixture": mixture}

    def first(order: int) -> Batch:
        with BatchStream(split, size, order, **more) as stream:
            return next(stream)

    return Taken(first(seed), first(seed_of_others(seed)) if mixed else None, seed, step - 1)


def rows_of(batch: Batch, split: Split, places: np.ndarray, crop: int) -> list[dict[str, Any]]:
    """Each row of a batch, in its order: number, chunk, member name, recording and where in it, in seconds.

    Of several data sets the recording's path begins with the name of its set. `places` are the first samples [n] of the
    windows of `crop` samples in the chunks; without a crop, a row has no `window`.
    """
    rows, manifest, names = [], split.manifest, split.names(batch.chunks)
    numbers = batch.rows.tolist()
    for row, chunk, name, place in zip(numbers, batch.chunks.tolist(), names, places.tolist(), strict=True):
        source, start = parse_name(name)
        start += place
        known = source < len(manifest.sources)
        path = " + ".join(manifest.recordings_at(source, start, crop)) if known else f"source {source}"
        found = {"row": row, "chunk": chunk, "name": name, "recording": path, "start_s": start / manifest.rate}
        rows.append(found | ({"window": place} if crop else {}))
    return rows


def write_wavs(taken: Taken, preparation: Preparation, rows: list[dict[str, Any]], rate: int, folder: Path) -> None:
    """Writes each row of a batch as the model took it, as a WAV file named by row and chunk."""
    make_folder(folder)
    for first in range(0, len(rows), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        audio = preparation.audio(taken.batch, taken.other, taken.done, torch.device("cpu"), part)
        numbers = (audio.transpose(1, 2) * 32768).round_().clamp_(-32768, 32767).short().numpy()
        for row, samples in zip(rows[part], numbers, strict=True):
            file = io.BytesIO()
            soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
            write_atomically(folder / f"{row['row']:05d}-{row['name']}", file.getvalue())
    print(printable(f"wrote {len(rows)} files to {folder}"), file=sys.stderr)


def show(step: int, batch: Batch, rows: list[dict[str, Any]], crop: int, mixed: bool) -> None:
    """Prints the chunks of a step as a table; `mixed` where they are of several data sets."""
    where = f"epoch {batch.cursor.epoch}, from position {batch.cursor.consumed}"
    title = f"step {step}: {f'from chunk {batch.cursor.consumed} of its mixture' if mixed else where}"
    table = Table(title=title + (f"; windows of {crop:,} samples" if crop else ""))
    for column in ("row", "chunk", "name", "recording", "at s"):
        table.add_column(column, justify="right" if column in ("row", "chunk", "at s") else "left")
    for row in rows:
        cells = (row["row"], row["chunk"], row["name"], row["recording"], f"{row['start_s']:.2f}")
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(soft_wrap=True).print(table)
