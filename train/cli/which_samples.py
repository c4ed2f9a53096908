"""`python -m train which-samples RUN_DIR --step S`: the chunks in the batch of a training step."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import soundfile
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shards import Batch, BatchStream, Cursor, DataError, Split
from shards.chunk import parse_name
from shards.files import make_folder, write_atomically
from shards.mixing.mixture import Mixture
from shards.reading.stream import schedule_of
from shards.text import printable
from train.errors import TrainError
from train.runs.requeue import ATTEMPTS_FILE
from train.runs.run_folder import RunDir
from train.runs.settings_history import DATA, at_step


def which_samples(settings: Any) -> int:
    """Prints the chunks of a step, and writes them as WAV files on request; returns the exit code."""
    run = RunDir.open(settings.run_dir)
    data = settings.data or run.config["data.path"]
    try:
        split = Split.open(data, "train")
    except DataError as error:
        raise TrainError(f"{error}; if the data has moved, pass --data DIR") from None
    fingerprint = at_step(run.record.settings, run.changes, settings.step)[DATA]
    if split.fingerprint != fingerprint:
        known = f"step {settings.step} of this run was trained on data with the fingerprint {fingerprint}"
        raise TrainError(f"{data}: other data ({split.fingerprint}); {known}; pass its folder as --data DIR")
    batch = batch_of_step(run, split, settings.step)
    rows = rows_of(batch, split)
    if settings.wav:
        write_wavs(batch, rows, split.rate, settings.wav)
    if settings.json:
        json.dump({"step": settings.step, "epoch": batch.cursor.epoch, "chunks": rows}, sys.stdout, indent=1)
        print()
    else:
        show(settings.step, batch, rows, mixed=len(split.sets) > 1)
    return 0


def batch_of_step(run: RunDir, split: Split, step: int) -> Batch:
    """The global batch of a step, counted from 1 as in metrics.jsonl, as the last attempt consumed it.

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
    try:
        mixture = Mixture.from_json(start["mixture"]) if "mixture" in start else None
        schedule = schedule_of(split, start["batch"], start["seed"], mixture=mixture)
    except ValueError as error:
        raise TrainError(f"{run.path}/{ATTEMPTS_FILE}: {error}; the file may have been edited") from None
    cursor = schedule.after(Cursor(start["epoch"], start["consumed"]), step - 1 - start["step"])
    more: dict[str, Any] = {"cursor": cursor, "prefetch": 1, "memory": 0, "mixture": mixture}
    with BatchStream(split, start["batch"], start["seed"], **more) as stream:
        return next(stream)


def rows_of(batch: Batch, split: Split) -> list[dict[str, Any]]:
    """Each row of a batch: its chunk, its member name, its recording and where in it, in seconds.

    Of several data sets the recording's path begins with the name of its set.
    """
    rows, manifest = [], split.manifest
    for row, (chunk, name) in enumerate(zip(batch.chunks.tolist(), split.names(batch.chunks), strict=True)):
        source, start = parse_name(name)
        known = source < len(manifest.sources)
        path = " + ".join(manifest.recordings_at(source, start)) if known else f"source {source}"
        rows.append({"row": row, "chunk": chunk, "name": name, "recording": path, "start_s": start / manifest.rate})
    return rows


def write_wavs(batch: Batch, rows: list[dict[str, Any]], rate: int, folder: Path) -> None:
    """Writes each row of a batch as a WAV file named by row and chunk."""
    make_folder(folder)
    for row, audio in zip(rows, batch.audio.numpy(), strict=True):
        file = io.BytesIO()
        soundfile.write(file, audio, rate, format="WAV", subtype="PCM_16")
        write_atomically(folder / f"{row['row']:05d}-{row['name']}", file.getvalue())
    print(printable(f"wrote {len(rows)} files to {folder}"), file=sys.stderr)


def show(step: int, batch: Batch, rows: list[dict[str, Any]], mixed: bool) -> None:
    """Prints the chunks of a step as a table; `mixed` where they are of several data sets."""
    where = f"epoch {batch.cursor.epoch}, from position {batch.cursor.consumed}"
    table = Table(title=f"step {step}: {f'from chunk {batch.cursor.consumed} of its mixture' if mixed else where}")
    for column in ("row", "chunk", "name", "recording", "at s"):
        table.add_column(column, justify="right" if column in ("row", "chunk", "at s") else "left")
    for row in rows:
        cells = (row["row"], row["chunk"], row["name"], row["recording"], f"{row['start_s']:.2f}")
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(soft_wrap=True).print(table)
