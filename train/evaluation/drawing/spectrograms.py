"""Spectrogram pictures of a page: pixels on one dB scale; the page adds axes and labels.

Sounds are [T], or [2, T] in stereo, of which the mean of the channels is drawn.
"""

import io
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import matplotlib
import numpy as np
from PIL import Image

from train.evaluation.drawing.data_url import data_url
from train.evaluation.drawing.pictures import (
    CEILING_DB,
    FARTHEST_DB,
    FLOOR_DB,
    MAPS,
    QUIET_DB,
    WINDOW,
    decibels,
    difference_of,
)

# Odd, so that a difference of 0 has its own colour.
COLOURS = 127
# Upper edges of the bands of `band_levels`, Hz.
BANDS_HZ = (1000, 4000)


@dataclass(frozen=True)
class PictureFormat:
    """An image format for pages.

    Attributes:
        width, height: Size in pixels.
        exact: True for PNG with a palette; False for WebP, a third of the size.
    """

    width: int
    height: int
    exact: bool


FINE = PictureFormat(240, 160, exact=True)
WIDE = PictureFormat(720, 160, exact=True)
SMALL = PictureFormat(168, 112, exact=False)
WIDE_SMALL = PictureFormat(560, 112, exact=False)


@dataclass(frozen=True)
class Picture:
    """An image as a data URL, with its text alternative and its size in pixels."""

    url: str
    alt: str
    width: int
    height: int


@cache
def palette(name: str) -> np.ndarray:
    """The colours of a colour map: [COLOURS, 3] uint8."""
    return (matplotlib.colormaps[MAPS[name]](np.linspace(0, 1, COLOURS))[:, :3] * 255).astype(np.uint8)


def stops(name: str, count: int = 12) -> list[tuple[float, str]]:
    """A colour map as gradient stops: positions in percent, and colours."""
    places = np.linspace(0, COLOURS - 1, count).astype(int)
    return [(100 * place / (COLOURS - 1), "#{:02x}{:02x}{:02x}".format(*palette(name)[place])) for place in places]


def draw(values: np.ndarray, low: float, high: float, colours: str, kept: PictureFormat) -> str:
    """Draws values [frequencies, frames] as a data URL, low frequencies at the bottom."""
    resized = Image.fromarray(values.astype(np.float32)[::-1]).resize((kept.width, kept.height), Image.Resampling.BOX)
    index = ((np.asarray(resized) - low) / (high - low) * (COLOURS - 1)).round().clip(0, COLOURS - 1).astype(np.uint8)
    file = io.BytesIO()
    if kept.exact:
        picture = Image.fromarray(index, mode="P")
        picture.putpalette(palette(colours).tobytes())
        picture.save(file, format="PNG", optimize=True)
        return data_url("image/png", file.getvalue())
    Image.fromarray(palette(colours)[index]).save(file, format="WEBP", quality=45, method=4)
    return data_url("image/webp", file.getvalue())


def levels_of(audio: np.ndarray, kept: PictureFormat) -> np.ndarray:
    """Spectrogram of audio in dBFS, with at least about one frame per pixel column: [frequencies, frames]."""
    return decibels(np.nan_to_num(audio), hop=min(WINDOW // 4, max(16, audio.shape[-1] // kept.width)))


def spectrogram(audio: np.ndarray, name: str, kept: PictureFormat) -> Picture:
    """The spectrogram of audio; `name` describes the audio in the text alternative."""
    levels = levels_of(audio, kept)
    alt = f"Spectrogram of {name}: loudest point {levels.max():.0f} dBFS, median {np.median(levels):.0f} dBFS"
    return Picture(draw(levels, FLOOR_DB, CEILING_DB, "level", kept), alt, kept.width, kept.height)


def difference(reference: np.ndarray, other: np.ndarray, rate: int, name: str, kept: PictureFormat) -> Picture:
    """Difference of the spectrograms of a sound and the reference, in dB per point."""
    louder, audible = difference_of(levels_of(reference, kept), levels_of(other, kept))
    mean = np.abs(louder)[audible].mean() if audible.any() else 0.0
    alt = (
        f"Difference of the spectrograms of {name}: {mean:.1f} dB on average; level {band_text(reference, other, rate)}"
    )
    return Picture(draw(louder, -FARTHEST_DB, FARTHEST_DB, "difference", kept), alt, kept.width, kept.height)


def band_levels(reference: np.ndarray, other: np.ndarray, rate: int) -> list[tuple[str, float]]:
    """Level of a sound relative to the reference in dB, for each band where either exceeds QUIET_DB."""
    edges = [0.0, *(edge for edge in BANDS_HZ if edge < rate / 2), rate / 2]
    energies = [np.abs(np.fft.rfft(np.atleast_2d(np.nan_to_num(audio)))) ** 2 for audio in (reference, other)]
    energies = [energy.mean(0) for energy in energies]  # over the channels
    places = np.fft.rfftfreq(length := reference.shape[-1], 1 / rate)
    # Energy of noise with root mean square QUIET_DB: Parseval's sum over half a spectrum.
    least = length**2 / 2 * 10 ** (QUIET_DB / 10)
    rows = []
    for low, high in pairwise(edges):
        inside = (places >= low) & (places <= high)
        a, b = (max(float(energy[inside].sum()), least) for energy in energies)
        name = f"below {high / 1000:g} kHz" if not low else f"{low / 1000:g} to {high / 1000:.3g} kHz"
        if max(a, b) > least:
            rows.append((name, 10 * np.log10(b / a)))
    return rows


def band_text(reference: np.ndarray, other: np.ndarray, rate: int) -> str:
    """The result of `band_levels` in words."""
    rows = band_levels(reference, other, rate)
    return ", ".join(f"{name} {round(value, 1) + 0.0:+.1f} dB" for name, value in rows) or "both silent"
