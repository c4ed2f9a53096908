"""Spectrograms of reference and reconstruction, side by side on one scale."""

import io

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure

FLOOR_DB = -90.0
WINDOW = 1024


def decibels(audio: np.ndarray) -> np.ndarray:
    """Hann-window magnitude spectrogram of [T] in dB below full scale: [WINDOW / 2 + 1, frames]."""
    padded = np.pad(audio, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[:: WINDOW // 4]
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
