"""`python -m train evaluate RUN_DIR`: measures held-out recordings and writes RUN_DIR/report/.

Under the launcher all processes measure, each chunk once, and the first one writes.
"""

import json
import sys
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

import audiovae
from audiovae import Autoencoder, ModelError, reconstruct_recording
from shards import DataError, Split
from shards.files import write_atomically
from train import checkpoint
from train.card import tell_measures
from train.engine import Engine, is_lost_peer
from train.errors import TrainError
from train.heldout import spread, to_audio
from train.measuring.bootstrap import COVERAGE, grouping
from train.measuring.chunks import (
    MEASURES,
    SAMPLES,
    Measured,
    measure_chunks,
    measure_latents,
    measure_levels,
    reference_embeddings,
    sample_embeddings,
)
from train.measuring.frechet import EMBEDDING, frechet, noise_floor
from train.measuring.latents import spent
from train.measuring.recordings import joined, measure_speech_of, speech_averages
from train.measuring.speech import require_packages
from train.measuring.tables import (
    averages,
    by_recording,
    csv_text,
    frechet_interval,
    latents_in_use,
    none_if_nan,
    silence,
)
from train.metrics import SILENT_PEAK, measure
from train.report.evaluated import write_evaluated
from train.report.page import Example
from train.rundir import RunDir

# Of metrics.json; 1 had no number. Grows when a field changes its meaning or goes.
FORMAT = 2
# Training chunks that the mean predictor averages.
MEAN_OF = 4096


def evaluate(settings: Any, engine: Engine) -> int:
    """Measures, writes and says where; returns the exit code."""
    try:
        run, model, origin, data, split = engine.everywhere(lambda: opened(settings, engine))
        device = next(model.parameters()).device
        chunks = measure_chunks(engine, split, device, model.reconstruct, "reconstructions")
        if chunks.silent.all():
            raise TrainError(
                f"{data}: all {len(chunks)} chunks of the split '{split.name}' are silent (never above "
                f"{20 * np.log10(SILENT_PEAK):.0f} dBFS): nothing to measure; give --split, or build from louder ones"
            )
        latents = measure_latents(engine, split, model)
        chunks.columns |= spent(latents, model.code_size, model.seconds, ~chunks.silent)
        summary = {
            "format": FORMAT,
            "run": run.path.name,
            "family": run.family,
            "model": origin,
            "data": str(data),
            "split": settings.split,
            "split_fingerprint": split.fingerprint,
            "chunks": len(chunks),
            "silent_chunks": int(chunks.silent.sum()),
            "interval_coverage": COVERAGE,
            **measure_sets(engine, split, model, chunks, measure_floors(engine, split, data, device)),
            "silent": silence(chunks),
            "latents": latents_in_use(chunks, latents, model.code_size, split),
            "levels": [
                {"known": known, **averages(own, split.samples)} for known, own in measure_levels(engine, split, model)
            ],
            "recordings": by_recording(chunks, latents, model.code_size, split),
        }
        if settings.speech:
            add_speech(summary, measure_speech_of(engine, split, model))
        write = (
            (lambda: write_report(run, model, split, summary, chunks, settings.examples)) if engine.is_main else None
        )
        engine.everywhere(write or (lambda: None))
        engine.wait_for_all()
    except RuntimeError as error:
        if engine.world > 1 and is_lost_peer(error):
            raise TrainError(
                "another process of this evaluation ended, for a reason of its own; run it again"
            ) from None
        raise
    return 0


def opened(settings: Any, engine: Engine) -> tuple[RunDir, Autoencoder, str, str, Split]:
    """The run, its model and where that came from, the data and its held-out split."""
    run = RunDir.open(settings.run_dir)
    if settings.speech:
        require_packages()
    device = settings.device
    if device in ("auto", engine.device.type):  # each process has a GPU of its own
        device = str(engine.device) if engine.device.type == "cuda" else "cpu"
    model, origin = trained_model(run, device)
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
    return run, model, origin, data, split


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


def measure_floors(engine: Engine, split: Split, data: str, device: torch.device) -> dict[str, Measured]:
    """What silence and the mean of the training chunks would score on the same chunks."""
    guesses = {"silence": torch.zeros(1, split.samples, device=device)}
    if split.manifest.splits.get("train"):
        guesses["mean of training chunks"] = engine.everywhere(lambda: mean_chunk(Split.open(data, "train"), device))
    return {name: measure_chunks(engine, split, device, guess.expand_as, name) for name, guess in guesses.items()}


def mean_chunk(train: Split, device: torch.device) -> Tensor:
    """The mean of chunks spread over a split: [1, T]."""
    taken = spread(len(train), MEAN_OF)
    total = sum(to_audio(train.read(part), device).sum(0) for part in np.array_split(taken, 16) if len(part))
    return total / len(taken)


def measure_sets(
    engine: Engine, split: Split, model: Autoencoder, chunks: Measured, floors: dict[str, Measured]
) -> dict[str, Any]:
    """Rows of the reconstruction, of the floors and of the prior's samples, with Fréchet distances to the references.

    Chunks that are silent are in none of them.
    """
    loud = ~chunks.silent
    references = reference_embeddings(engine, split, next(model.parameters()).device)[loud]
    samples = sample_embeddings(engine, model, min(SAMPLES, len(references)))
    groups, over = grouping(chunks.sources[loud], chunks.starts[loud], split.samples)

    def row(measured: Measured) -> dict[str, Any]:
        found = averages(measured, split.samples)
        own = measured.columns["embedding"][loud]
        found["frechet"] = frechet(references, own)
        found["intervals"]["frechet"] = frechet_interval(references, own, groups)
        return found

    return {
        "reconstruction": row(chunks),
        "floors": {name: row(floor) for name, floor in floors.items()},
        "samples": {"count": len(samples), "temperature": 1.0, "frechet": frechet(references, samples)},
        "frechet": {
            "embedding": EMBEDDING,
            "references": len(references),
            "noise_floor": noise_floor(references, groups),
            "noise_floor_over": over,
        },
    }


def add_speech(summary: dict[str, Any], found: dict[int, dict[str, float]]) -> None:
    """PESQ and STOI into the rows of the recordings, which are in the same order, and their means."""
    for row, values in zip(summary["recordings"], found.values(), strict=True):
        row |= {name: none_if_nan(value) for name, value in values.items()}
    summary["speech"] = speech_averages(list(found.values()))


def write_report(
    run: RunDir, model: Autoencoder, split: Split, summary: dict[str, Any], chunks: Measured, count: int
) -> None:
    """Everything in RUN_DIR/report/, each file whole or not at all; metrics.json last: then all is there."""
    folder = run.path / "report"
    examples = pick_examples(model, split, chunks, count)
    examples += whole_recordings(model, split, chunks)
    folder.mkdir(parents=True, exist_ok=True)
    # Gone until all is there: a report that was ended early is none, and no mixture of two.
    (folder / "metrics.json").unlink(missing_ok=True)
    write_atomically(folder / "metrics.csv", csv_text(chunks, split))
    write_evaluated(folder, run, model, split, summary, examples, count)
    write_atomically(folder / "metrics.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    show(summary)
    print(f"report:  {folder / 'index.html'}")
    print(f"audio:   {folder / 'audio'} (all sounds of the report as WAV files)")
    print(f"run:     {run.path}")
    # Measures of what it was trained on, or of a model in the making, are no held-out measures of the finished one.
    if run.finished_at is not None and summary["split"] != "train":
        print(f"card:    {tell_measures(run, split, summary)}")


def level_name(known: list[int]) -> str:
    """How tables call a reconstruction through some levels."""
    return f"level{'s' if len(known) > 1 else ''} {', '.join(map(str, known))} only"


def pick_examples(model: Autoencoder, split: Split, chunks: Measured, count: int) -> list[Example]:
    """Best, median and worst chunks by SI-SDR, with what the model makes of them."""
    scores = chunks.columns["si_sdr"]
    ranked = np.flatnonzero(~np.isnan(scores))
    ranked = ranked[np.argsort(-scores[ranked], kind="stable")]
    count = min(count, max(1, len(ranked) // 3))
    middle = max(0, (len(ranked) - count) // 2)
    kinds = {"best": ranked[:count], "median": ranked[middle : middle + count], "worst": ranked[len(ranked) - count :]}
    examples = []
    for kind, chosen in kinds.items():
        for place, chunk in enumerate(chosen, start=1):
            audio = to_audio(split.read(chunks.indices[[chunk]]), next(model.parameters()).device)
            path, start = split.manifest.sources[chunks.sources[chunk]].path, chunks.starts[chunk] / split.rate
            pair = mono(audio), mono(model.reconstruct(audio))
            measures = {name: float(chunks.columns[name][chunk]) for name in MEASURES}
            examples.append(Example(f"{kind}-{place}", kind, place, path, float(start), *pair, measures))
    return examples


def whole_recordings(model: Autoencoder, split: Split, chunks: Measured, seconds: float = 20.0) -> list[Example]:
    """The first seconds of up to three recordings, joined from their chunks and reconstructed in one piece."""
    examples = []
    for place, source in enumerate(np.unique(chunks.sources)[:3], start=1):
        recording = joined(split, source, seconds)
        output = reconstruct_recording(model, torch.from_numpy(recording)).cpu()
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


def show(summary: dict[str, Any]) -> None:
    """The table a person reads in the terminal."""
    title = f"{summary['run']} ({summary['family']}) on {summary['chunks']} held-out chunks"
    table = Table(title=escape(title))
    for column in ("", "SI-SDR dB", "STFT", "mel", "MSE", "cosine"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=not column)
    levels = {level_name(row["known"]): row for row in summary["levels"]}
    rows = {"reconstruction": summary["reconstruction"], **levels, **summary["floors"]}
    for name, values in rows.items():
        cells = ("—" if values[key] is None else f"{values[key]:.3g}" for key in MEASURES)
        table.add_row(name, *cells)
    Console(file=sys.stdout).print(table)
    row = summary["reconstruction"]
    if interval := row["intervals"]["si_sdr"]:
        low, high = interval
        print(f"SI-SDR:  {row['si_sdr']:.2f} dB, 95 % interval {low:.2f} to {high:.2f} over {row['interval_over']}")
    distances = {
        "reconstruction": row["frechet"],
        "samples": summary["samples"]["frechet"],
        "references' halves": summary["frechet"]["noise_floor"],
        "silence": summary["floors"]["silence"]["frechet"],
    }
    told = ", ".join(f"{name} {value:.3g}" for name, value in distances.items() if value is not None)
    print(f"Fréchet: {told or 'too few chunks'}")
    if summary["silent_chunks"]:
        silent = summary["silent"]
        print(
            f"silent:  {silent['chunks']} chunks at {silent['reference_dbfs']:.0f} dBFS, in no mean above; "
            f"their reconstructions are at {silent['output_dbfs']:.0f} dBFS"
        )
    if speech := summary.get("speech"):
        told = ", ".join(f"{name.upper()} {speech[name]:.3g}" for name in ("pesq", "stoi") if speech[name] is not None)
        print(f"speech:  {told or 'no value'} over {speech['recordings']} recordings")
