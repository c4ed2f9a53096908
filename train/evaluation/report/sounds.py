"""Sounds inside a page, and the exact ones beside it."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from shards.files import make_folder, remove_file, remove_leftovers, write_atomically
from train.evaluation.drawing.data_url import data_url

# Of Vorbis, 0 the best and 1 the smallest: a second of music takes 10 kB.
COMPRESSION = 0.65
# Chromium (156) cannot play FLAC of one or two blocks.
SHORT_S = 0.5
# The names that `write_wavs` gives: others in the folder are somebody's own.
OURS = re.compile(r"(best|median|worst|recording|interpolation|prior)-[\w.-]+\.wav")


@dataclass(frozen=True)
class SoundFormat:
    """How sounds are kept in a page.

    Attributes:
        name: As people call it.
        media: As browsers call it.
        container, codec: As libsndfile calls it.
        exact: Whether it is sample for sample the 16-bit WAV.
    """

    name: str
    media: str
    container: str
    codec: str
    exact: bool


FLAC = SoundFormat("FLAC", "audio/flac", "FLAC", "PCM_16", exact=True)
WAV = SoundFormat("WAV", "audio/wav", "WAV", "PCM_16", exact=True)
VORBIS = SoundFormat("Ogg Vorbis", "audio/ogg", "OGG", "VORBIS", exact=False)


def sound_url(audio: np.ndarray, rate: int, kept: SoundFormat = FLAC) -> str:
    """[T] audio as a URL; what exceeds [-1, 1] is clipped, what is not finite is silent."""
    if kept is FLAC and len(audio) < SHORT_S * rate:
        kept = WAV
    file = io.BytesIO()
    more = {} if kept.exact else {"compression_level": COMPRESSION}
    soundfile.write(file, clipped(audio), rate, format=kept.container, subtype=kept.codec, **more)
    return data_url(kept.media, file.getvalue())


def clipped(audio: np.ndarray) -> np.ndarray:
    """What a player can play: [T] float32 in [-1, 1]."""
    return np.nan_to_num(audio.astype(np.float32), nan=0.0, posinf=1.0, neginf=-1.0).clip(-1, 1)


def write_wavs(folder: Path, sounds: dict[str, np.ndarray], rate: int, inside: Path | None = None) -> None:
    """Sounds [T] by name as exact WAV files; those that an earlier report left there and this one lacks go.

    Args:
        folder: Made when missing.
        sounds: By name.
        rate: In Hz.
        inside: The outermost folder, see `shards.files`; by default the one that holds `folder`.
    """
    inside = inside or folder.parent
    make_folder(folder, inside)
    remove_leftovers(folder)
    for old in folder.iterdir():
        if OURS.fullmatch(old.name) and old.stem not in sounds:
            remove_file(old, inside)
    for name, audio in sounds.items():
        write_wav(folder / f"{name}.wav", audio, rate, inside)


def write_wav(path: Path, audio: np.ndarray, rate: int, inside: Path | None = None) -> None:
    """[T] audio as a WAV file of 16 bits, whole or not at all; see `shards.files` for `inside`."""
    file = io.BytesIO()  # libsndfile does not say why it cannot write
    soundfile.write(file, clipped(audio), rate, format="WAV", subtype="PCM_16")
    write_atomically(path, file.getvalue(), inside)
