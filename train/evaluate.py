"""`python -m train evaluate RUN_DIR`: measures held-out recordings and writes RUN_DIR/report/."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import audiovae
from audiovae import Autoencoder, ModelError, reconstruct_recording
from shards import DataError, Split
from shards.chunk import parse_name
from shards.files import write_atomically
from shards.progress import progress
from train import checkpoint
from train.errors import TrainError
from train.heldout import AT_A_TIME, latent_use, measure_levels, spread, to_audio
from train.metrics import measure
from train.report.evaluated import write_evaluated
from train.report.generated import beginning
from train.report.page import Example
from train.rundir import RunDir

# Training chunks that the mean predictor averages.
MEAN_OF = 4096
MEASURES = ("si_sdr", "stft", "mel", "mse", "cosine")


@dataclass
class Chunk:
    """One held-out chunk and its measures (NaN where a silent chunk has none)."""

    index: int
    name: str
    source: int
    measures: dict[str, float]


def evaluate(settings: Any) -> int:
    """Measures, writes and says where; returns the exit code."""
    run = RunDir.open(settings.run_dir)
    model, origin = trained_model(run, settings.device)
    data = settings.data or run.config["data.path"]
    try:
        split = Split.open(data, settings.split)
    except DataError as error:
        raise TrainError(f"{error}; if the data is in another place now, give --data DIR") from None
    if (split.samples, split.rate) != (model.samples, model.rate):
        raise TrainError(
            f"{data}: chunks of {split.samples} samples at {split.rate} Hz, but the model was trained on "
            f"{model.samples} at {model.rate}; give other shards with --data"
        )
    device = next(model.parameters()).device
    chunks = measure_chunks(split, device, model.reconstruct)
    floors = measure_floors(split, data, device)
    folder = run.path / "report"
    summary = {
        "run": run.path.name,
        "family": run.family,
        "model": origin,
        "data": str(data),
        "split": settings.split,
        "split_fingerprint": split.fingerprint,
        "chunks": len(chunks),
        "silent_chunks": int(sum(chunk.measures["silent"] for chunk in chunks)),
        "reconstruction": averages(chunks),
        "floors": floors,
        "latents": latent_use(model, split),
        "levels": [{name: none_if_nan(value) for name, value in row.items()} for row in measure_levels(model, split)],
        "recordings": by_recording(chunks, split),
    }
    examples = pick_examples(model, split, chunks, settings.examples)
    examples += whole_recordings(model, split, chunks)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "metrics.json", json.dumps(summary, indent=1) + "\n")
    write_csv(folder / "metrics.csv", chunks)
    write_evaluated(folder, run, model, split, summary, examples, settings.examples)
    show(summary)
    print(f"report:  {folder / 'index.html'}")
    print(f"audio:   {folder / 'audio'} (all sounds of the report as WAV files)")
    print(f"run:     {run.path}")
    return 0


def trained_model(run: RunDir, device: str) -> tuple[Autoencoder, str]:
    """The finished model, or that of the newest sound checkpoint, and where it came from."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise TrainError(f"--device {device}: choose cpu, or cuda where there is a GPU")
    # The run may be in progress: its checkpoints are looked at and left as they are.
    done = run.finished_at is not None
    source = run.path / "model" if done else checkpoint.newest_sound(run.path / "checkpoints", set_aside=False)
    if source is None:
        raise TrainError(f"{run.path}: nothing saved yet; let it train until its first checkpoint")
    try:
        return audiovae.load(source, device), source.name
    except ModelError as error:
        raise TrainError(str(error)) from None


def measure_chunks(split: Split, device: torch.device, reconstruct: Callable[[Tensor], Tensor]) -> list[Chunk]:
    """Every chunk of the split, measured against what `reconstruct` makes of it ([B, 1, T] to the same)."""
    sources, _ = split.keys()
    chunks: list[Chunk] = []
    with progress("measuring chunks", len(split)) as show_done:
        for first in range(0, len(split), AT_A_TIME):
            indices = np.arange(first, min(first + AT_A_TIME, len(split)))
            audio = to_audio(split.read(indices), device)
            values = {k: v.tolist() for k, v in measure(reconstruct(audio), audio, split.rate).items()}
            for i, (index, name) in enumerate(zip(indices, split.names(indices), strict=True)):
                chunks.append(Chunk(int(index), name, int(sources[index]), {k: v[i] for k, v in values.items()}))
            show_done(len(chunks))
    return chunks


def measure_floors(split: Split, data: str, device: torch.device) -> dict[str, dict[str, float | None]]:
    """What silence and the mean of the training chunks would score on the same chunks."""
    guesses = {"silence": torch.zeros(1, split.samples, device=device)}
    if split.manifest.splits.get("train"):
        train = Split.open(data, "train")
        taken = spread(len(train), MEAN_OF)
        total = sum(to_audio(train.read(part), device).sum(0) for part in np.array_split(taken, 16) if len(part))
        guesses["mean of training chunks"] = total / len(taken)
    return {name: averages(measure_chunks(split, device, guess.expand_as)) for name, guess in guesses.items()}


def averages(chunks: list[Chunk]) -> dict[str, float | None]:
    """Mean of each measure over the chunks that have it, and the median of SI-SDR."""
    result: dict[str, float | None] = {}
    for name in MEASURES:
        values = [chunk.measures[name] for chunk in chunks if chunk.measures[name] == chunk.measures[name]]
        result[name] = float(np.mean(values)) if values else None
        if name == "si_sdr":
            result["si_sdr_median"] = float(np.median(values)) if values else None
    return result


def none_if_nan(value: Any) -> Any:
    """JSON has no NaN."""
    return None if value != value else value


def level_name(known: list[int]) -> str:
    """How tables call a reconstruction through some levels."""
    return f"level{'s' if len(known) > 1 else ''} {', '.join(map(str, known))} only"


def by_recording(chunks: list[Chunk], split: Split) -> list[dict[str, Any]]:
    """Averages for each recording of the split."""
    rows = []
    for source in sorted({chunk.source for chunk in chunks}):
        own = [chunk for chunk in chunks if chunk.source == source]
        rows.append({"path": split.manifest.sources[source].path, "chunks": len(own), **averages(own)})
    return rows


def pick_examples(model: Autoencoder, split: Split, chunks: list[Chunk], count: int) -> list[Example]:
    """Best, median and worst chunks by SI-SDR, with what the model makes of them."""
    ranked = [chunk for chunk in chunks if chunk.measures["si_sdr"] == chunk.measures["si_sdr"]]
    ranked.sort(key=lambda chunk: -chunk.measures["si_sdr"])
    count = min(count, max(1, len(ranked) // 3))
    middle = max(0, (len(ranked) - count) // 2)
    kinds = {"best": ranked[:count], "median": ranked[middle : middle + count], "worst": ranked[len(ranked) - count :]}
    examples = []
    for kind, chosen in kinds.items():
        for place, chunk in enumerate(chosen, start=1):
            audio = to_audio(split.read(np.array([chunk.index])), next(model.parameters()).device)
            path, start = split.manifest.sources[chunk.source].path, parse_name(chunk.name)[1] / split.rate
            pair = mono(audio), mono(model.reconstruct(audio))
            examples.append(Example(f"{kind}-{place}", kind, place, path, start, *pair, chunk.measures))
    return examples


def whole_recordings(model: Autoencoder, split: Split, chunks: list[Chunk], seconds: float = 20.0) -> list[Example]:
    """The first seconds of up to three recordings, joined from their chunks and reconstructed in one piece."""
    examples = []
    for place, source in enumerate(sorted({chunk.source for chunk in chunks})[:3], start=1):
        recording = beginning(split, source, seconds)
        output = reconstruct_recording(model, torch.from_numpy(recording))
        reference = torch.from_numpy(recording).view(1, 1, -1)
        values = {k: v.item() for k, v in measure(output.view(1, 1, -1), reference, split.rate).items()}
        path = split.manifest.sources[source].path
        examples.append(
            Example(f"recording-{source}", "recording", place, path, 0.0, recording, output.numpy(), values)
        )
    return examples


def mono(audio: Tensor) -> np.ndarray:
    """[1, 1, T] -> [T] float32 on the host."""
    return audio.squeeze().float().cpu().numpy()


def write_csv(path: Path, chunks: list[Chunk]) -> None:
    """One line a chunk."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["chunk", *MEASURES, "silent"])
        for chunk in chunks:
            writer.writerow([chunk.name, *(f"{chunk.measures[name]:.6g}" for name in (*MEASURES, "silent"))])


def show(summary: dict[str, Any]) -> None:
    """The table a person reads in the terminal."""
    table = Table(title=f"{summary['run']} ({summary['family']}) on {summary['chunks']} held-out chunks")
    for column in ("", "SI-SDR dB", "STFT", "mel", "MSE", "cosine"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=not column)
    levels = {level_name(row["known"]): row for row in summary["levels"]}
    rows = {"reconstruction": summary["reconstruction"], **levels, **summary["floors"]}
    for name, values in rows.items():
        cells = ("—" if values[key] is None else f"{values[key]:.3g}" for key in MEASURES)
        table.add_row(name, *cells)
    Console(file=sys.stdout).print(table)
