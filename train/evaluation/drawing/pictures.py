"""Pictures of a model: spectrograms of reference and reconstruction on one scale, and the use of codes."""

import io

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure

FLOOR_DB, CEILING_DB = -90.0, -10.0
# Differences below this level are of no interest: both are lifted to it first.
QUIET_DB = -80.0
# The difference's colours end here.
FARTHEST_DB = 30.0
# The middle of the difference's map is dark: pictures are dark in both themes.
MAPS = {"level": "magma", "difference": "berlin"}
WINDOW = 1024
# The least share of a code that is drawn: unused ones lie on this line.
MIN_SHARE = 1e-6


def decibels(audio: np.ndarray, hop: int = WINDOW // 4) -> np.ndarray:
    """Hann-window magnitude spectrogram of [T] in dB below full scale, a frame each `hop`: [WINDOW / 2 + 1, frames]."""
    padded = np.pad(audio, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop]
    taper = np.hanning(WINDOW)
    magnitude = np.abs(np.fft.rfft(frames * taper)) * 2 / taper.sum()
    return 20 * np.log10(np.maximum(magnitude, 10 ** (FLOOR_DB / 20))).T


def difference_of(reference: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how many dB a spectrogram in decibels is above another, and where either is more than quiet: like both."""
    a, b = np.maximum(reference, QUIET_DB), np.maximum(other, QUIET_DB)
    return b - a, (a > QUIET_DB) | (b > QUIET_DB)


def comparison(reference: np.ndarray, reconstruction: np.ndarray, rate: int) -> bytes:
    """PNG with the spectrograms of two recordings [T] at `rate` Hz on one scale, and their difference."""
    figure = Figure(figsize=(12, 2.6), dpi=100, layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    levels = decibels(reference), decibels(reconstruction)
    panels = [
        ("reference", levels[0], "level", FLOOR_DB, CEILING_DB),
        ("reconstruction", levels[1], "level", FLOOR_DB, CEILING_DB),
        ("difference", difference_of(*levels)[0], "difference", -FARTHEST_DB, FARTHEST_DB),
    ]
    pictures = []
    for axis, (title, values, colours, low, high) in zip(axes, panels, strict=True):
        extent = (0, len(reference) / rate, 0, rate / 2000)
        pictures.append(
            axis.imshow(values, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap=MAPS[colours])
        )
        axis.set(title=title, xlabel="s")
    axes[0].set_ylabel("kHz")
    figure.colorbar(pictures[1], ax=axes[:2], label="dBFS")
    figure.colorbar(pictures[2], ax=axes[2], label="dB")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def ranking(usage: dict[str, np.ndarray]) -> bytes:
    """PNG with the share of each code by rank, a line a codebook; dashed, where all codes are used alike."""
    figure = Figure(figsize=(5, 3), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, share in usage.items():
        ordered = np.sort(share)[::-1]
        axes.plot(np.arange(1, len(ordered) + 1), np.maximum(ordered, MIN_SHARE), label=f"codebook {name}")
    axes.axhline(1 / len(ordered), color="gray", linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="code, the most used first", ylabel="share of the frames")
    axes.legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
