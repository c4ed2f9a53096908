"""Pictures of a model: spectrograms of reference and reconstruction on one scale, and the use of codes."""

import io

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure

FLOOR_DB = -90.0
WINDOW = 1024
# The least share of a code that is drawn: unused ones lie on this line.
LEAST_SHARE = 1e-6


def decibels(audio: np.ndarray, hop: int = WINDOW // 4) -> np.ndarray:
    """Hann-window magnitude spectrogram of [T] in dB below full scale, a frame each `hop`: [WINDOW / 2 + 1, frames]."""
    padded = np.pad(audio, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop]
    taper = np.hanning(WINDOW)
    magnitude = np.abs(np.fft.rfft(frames * taper)) * 2 / taper.sum()
    return 20 * np.log10(np.maximum(magnitude, 10 ** (FLOOR_DB / 20))).T


def comparison(reference: np.ndarray, reconstruction: np.ndarray, rate: int) -> bytes:
    """PNG with the spectrograms of two recordings [T] at `rate` Hz."""
    figure = Figure(figsize=(9, 2.6), dpi=100, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    seconds = len(reference) / rate
    for axis, audio, title in zip(axes, (reference, reconstruction), ("reference", "reconstruction"), strict=True):
        picture = axis.imshow(
            decibels(audio),
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, rate / 2000),
            vmin=FLOOR_DB,
            vmax=-10,
            cmap="magma",
        )
        axis.set(title=title, xlabel="s")
    axes[0].set_ylabel("kHz")
    figure.colorbar(picture, ax=axes, label="dBFS")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def ranking(usage: dict[str, np.ndarray]) -> bytes:
    """PNG with the share of each code by rank, a line a codebook; dashed, where all codes are used alike."""
    figure = Figure(figsize=(5, 3), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, share in usage.items():
        ordered = np.sort(share)[::-1]
        axes.plot(np.arange(1, len(ordered) + 1), np.maximum(ordered, LEAST_SHARE), label=f"codebook {name}")
    axes.axhline(1 / len(ordered), color="gray", linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="code, the most used first", ylabel="share of the frames")
    axes.legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
