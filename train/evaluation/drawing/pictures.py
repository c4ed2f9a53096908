"""PNG pictures for the tracker: spectrograms of reference and reconstruction, and the use of the codes."""

import io

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure

FLOOR_DB, CEILING_DB = -90.0, -10.0
# Levels below this are raised to it before taking a difference, so inaudible differences do not show.
QUIET_DB = -80.0
# Range of the colour scale of differences.
FARTHEST_DB = 30.0
# Both colour maps are dark at silence or equality, and look the same in both themes.
MAPS = {"level": "magma", "difference": "berlin"}
WINDOW = 1024
# Shares below this are drawn at this value; unused codes lie there.
MIN_SHARE = 1e-6


def decibels(audio: np.ndarray, hop: int = WINDOW // 4) -> np.ndarray:
    """Hann-window magnitude spectrogram in dBFS, one frame per `hop` samples: [WINDOW / 2 + 1, frames].

    Of [T], or of the mean of the channels [2, T].
    """
    padded = np.pad(audio if audio.ndim == 1 else audio.mean(0), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop]
    taper = np.hanning(WINDOW)
    magnitude = np.abs(np.fft.rfft(frames * taper)) * 2 / taper.sum()
    return 20 * np.log10(np.maximum(magnitude, 10 ** (FLOOR_DB / 20))).T


def difference_of(reference: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference of two spectrograms in dB (`other` minus `reference`), and a mask where either exceeds QUIET_DB."""
    a, b = np.maximum(reference, QUIET_DB), np.maximum(other, QUIET_DB)
    return b - a, (a > QUIET_DB) | (b > QUIET_DB)


def comparison(reference: np.ndarray, reconstruction: np.ndarray, rate: int) -> bytes:
    """PNG with the spectrograms of two recordings at `rate` Hz on one scale, and their difference."""
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
        extent = (0, reference.shape[-1] / rate, 0, rate / 2000)
        pictures.append(
            axis.imshow(values, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap=MAPS[colours])
        )
        axis.set(title=title, xlabel="s")
    axes[0].set_ylabel("kHz")
    figure.colorbar(pictures[1], ax=axes[:2], label="dBFS")
    figure.colorbar(pictures[2], ax=axes[2], label="dB")
    return png_of(figure)


def spectrogram(audio: np.ndarray, rate: int) -> bytes:
    """PNG with the spectrogram of a recording at `rate` Hz."""
    figure = Figure(figsize=(12, 2.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    extent = (0, audio.shape[-1] / rate, 0, rate / 2000)
    drawn = axes.imshow(
        decibels(audio),
        origin="lower",
        aspect="auto",
        extent=extent,
        vmin=FLOOR_DB,
        vmax=CEILING_DB,
        cmap=MAPS["level"],
    )
    axes.set(xlabel="s", ylabel="kHz")
    figure.colorbar(drawn, ax=axes, label="dBFS")
    return png_of(figure)


def ranking(usage: dict[str, np.ndarray]) -> bytes:
    """PNG with the share [K] of each code by rank, one line per codebook; dashed: all codes used equally."""
    figure = Figure(figsize=(5, 3), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, share in usage.items():
        ordered = np.sort(share)[::-1]
        axes.plot(np.arange(1, len(ordered) + 1), np.maximum(ordered, MIN_SHARE), label=f"codebook {name}")
    axes.axhline(1 / len(ordered), color="gray", linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="code rank, most used first", ylabel="share of the frames")
    axes.legend(fontsize="small")
    return png_of(figure)


def png_of(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
