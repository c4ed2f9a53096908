"""Spectrogram pictures of a page: bare pixels on one dB scale, labelled by the page."""

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

# An odd number: the middle of the difference is a colour of its own.
COLOURS = 127
# In which the bands of `band_levels` end, Hz.
BANDS_HZ = (1000, 4000)


@dataclass(frozen=True)
class PictureFormat:
    """How pictures are kept in a page.

    Attributes:
        width, height: Pixels of a picture of a chunk.
        exact: PNG with a palette, else WebP, a third of the size.
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
    """A picture and what it says to those who do not see it."""

    url: str
    alt: str
    width: int
    height: int


@cache
def palette(name: str) -> np.ndarray:
    """The colours of a map: [COLOURS, 3] uint8."""
    return (matplotlib.colormaps[MAPS[name]](np.linspace(0, 1, COLOURS))[:, :3] * 255).astype(np.uint8)


def stops(name: str, count: int = 12) -> list[tuple[float, str]]:
    """A map as stops of a gradient: places in percent, and colours."""
    places = np.linspace(0, COLOURS - 1, count).astype(int)
    return [(100 * place / (COLOURS - 1), "#{:02x}{:02x}{:02x}".format(*palette(name)[place])) for place in places]


def draw(values: np.ndarray, low: float, high: float, colours: str, kept: PictureFormat) -> str:
    """A picture of values [frequencies, frames], low frequencies at the bottom, as a URL."""
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
    """Decibels of [T] audio with as many frames as the picture shows, of long ones more: [frequencies, frames]."""
    return decibels(np.nan_to_num(audio), hop=min(WINDOW // 4, max(16, len(audio) // kept.width)))


def spectrogram(audio: np.ndarray, name: str, kept: PictureFormat) -> Picture:
    """The spectrogram of [T] audio that `name` names."""
    levels = levels_of(audio, kept)
    alt = f"Spectrogram of {name}: loudest point {levels.max():.0f} dBFS, median {np.median(levels):.0f} dBFS"
    return Picture(draw(levels, FLOOR_DB, CEILING_DB, "level", kept), alt, kept.width, kept.height)


def difference(reference: np.ndarray, other: np.ndarray, rate: int, name: str, kept: PictureFormat) -> Picture:
    """How much louder or quieter each point of another sound [T] is than that of the reference [T]."""
    louder, heard = difference_of(levels_of(reference, kept), levels_of(other, kept))
    mean = np.abs(louder)[heard].mean() if heard.any() else 0.0
    alt = (
        f"Difference of the spectrograms of {name}: {mean:.1f} dB on average; level {band_text(reference, other, rate)}"
    )
    return Picture(draw(louder, -FARTHEST_DB, FARTHEST_DB, "difference", kept), alt, kept.width, kept.height)


def band_levels(reference: np.ndarray, other: np.ndarray, rate: int) -> list[tuple[str, float]]:
    """By how many dB another sound [T] is louder than the reference [T] in each band that either has."""
    edges = [0.0, *(edge for edge in BANDS_HZ if edge < rate / 2), rate / 2]
    energies = [np.abs(np.fft.rfft(np.nan_to_num(audio))) ** 2 for audio in (reference, other)]
    places = np.fft.rfftfreq(len(reference), 1 / rate)
    # Of noise with this root mean square: Parseval's sum over half a spectrum.
    least = len(reference) ** 2 / 2 * 10 ** (QUIET_DB / 10)
    rows = []
    for low, high in pairwise(edges):
        inside = (places >= low) & (places <= high)
        a, b = (max(float(energy[inside].sum()), least) for energy in energies)
        name = f"below {high / 1000:g} kHz" if not low else f"{low / 1000:g} to {high / 1000:.3g} kHz"
        if max(a, b) > least:
            rows.append((name, 10 * np.log10(b / a)))
    return rows


def band_text(reference: np.ndarray, other: np.ndarray, rate: int) -> str:
    """`band_levels` in words."""
    rows = band_levels(reference, other, rate)
    return ", ".join(f"{name} {round(value, 1) + 0.0:+.1f} dB" for name, value in rows) or "both silent"
