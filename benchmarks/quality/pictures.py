"""Pictures of the trials: curves, spectrograms, codebooks, levels."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
from matplotlib.figure import Figure

from benchmarks.trials.trial import Result

FAMILIES = ("vae", "hvae", "vqvae")
SHOWN_S = 4.0


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", metadata={"Software": None})


def curves(results: Mapping[str, Result], path: Path) -> None:
    """Draws held-out SI-SDR and STFT loss over time for our families and those of the study."""
    figure = Figure(figsize=(11, 4), dpi=90, layout="constrained")
    axes = figure.subplots(1, 2)
    for name, title, axis in (("valid/si_sdr", "held-out SI-SDR, dB", axes[0]), ("loss/stft", "STFT loss", axes[1])):
        for trial, result in results.items():
            style = "-" if trial in FAMILIES else "--" if trial.startswith("study") else None
            if style is None or (name == "loss/stft" and "mel" in trial + result.trial["preset"]):
                continue
            begin = result.points[0]["time"]
            points = [((row["time"] - begin) / 60, row[name]) for row in result.points if name in row]
            axis.plot(*zip(*points, strict=True), style, label=trial, linewidth=1.3)
        axis.set(xlabel="minutes", title=title)
        axis.grid(alpha=0.3)
    axes[0].set_ylim(bottom=-30)
    axes[1].legend(fontsize=8)
    _save(figure, path)


def spectrograms(results: Mapping[str, Result], path: Path) -> None:
    """Draws spectrograms of a held-out recording and its reconstructions by each family and the pooled VAE."""
    rows = [*FAMILIES, "study-pooled-vae"]
    audio = {name: results[name].folder / "report" / "audio" for name in rows}
    stem = min(file.name.removesuffix("-reference.wav") for file in audio[rows[0]].glob("recording-*-reference.wav"))
    figure = Figure(figsize=(11, 2 * (len(rows) + 1)), dpi=80, layout="constrained")
    axes = figure.subplots(len(rows) + 1, 1, sharex=True)
    sounds = [("reference", audio[rows[0]] / f"{stem}-reference.wav")]
    sounds += [(name, audio[name] / f"{stem}-reconstruction.wav") for name in rows]
    for axis, (name, file) in zip(axes, sounds, strict=True):
        samples, rate = soundfile.read(file, dtype="float32")
        samples = samples[: int(SHOWN_S * rate)] + 1e-7 * np.random.default_rng(0).standard_normal(
            min(len(samples), int(SHOWN_S * rate))
        )
        axis.specgram(samples, NFFT=1024, Fs=rate, noverlap=768, vmin=-130, vmax=-30, cmap="magma")
        axis.set(title=name, ylabel="Hz")
    axes[-1].set_xlabel("seconds")
    _save(figure, path)


def codebooks(results: Mapping[str, Result], path: Path) -> None:
    """Draws perplexity and dead codes in training, ours and those of vector-quantize-pytorch."""
    figure = Figure(figsize=(11, 3.2), dpi=90, layout="constrained")
    axes = figure.subplots(1, 2)
    for trial, result in results.items():
        if trial.startswith("codes"):
            for axis, name in zip(axes, ("model/perplexity", "model/dead_codes"), strict=True):
                if series := result.series(name):
                    axis.plot(*zip(*series, strict=True), label=trial, linewidth=1.2)
                axis.set(title=f"{name.removeprefix('model/').replace('_', ' ')} of 1,024", xlabel="step")
                axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    _save(figure, path)


def levels(results: Mapping[str, Result], path: Path) -> None:
    """Draws the KL of each level in training for the HVAE and the plain recipe."""
    figure = Figure(figsize=(11, 3.2), dpi=90, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, trial in zip(axes, ("hvae", "study-hvae"), strict=True):
        for level in range(4):
            if series := results[trial].series(f"model/kl_{level}_nats_per_second"):
                axis.plot(*zip(*series, strict=True), label=f"level {level}", linewidth=1.3)
        axis.set(title=trial, xlabel="step", yscale="symlog")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0].set_ylabel("KL, nats a second")
    _save(figure, path)


PICTURES = {"curves": curves, "spectrograms": spectrograms, "codebooks": codebooks, "levels": levels}
