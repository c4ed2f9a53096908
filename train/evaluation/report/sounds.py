"""Audio inside a page, and exact WAV files next to it: [T] for mono, left and right [2, T] for stereo."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from torch import Tensor

from shards.files import make_folder, remove_file, remove_leftovers, write_atomically
from train.evaluation.drawing.data_url import data_url

# Vorbis compression, from 0 (best quality) to 1 (smallest): here a second of music takes 10 kB.
COMPRESSION = 0.65
# Chromium 156 cannot play FLAC of one or two blocks, so shorter audio uses WAV.
SHORT_S = 0.5
# Names of files that `write_wavs` creates; it leaves all other files alone.
OURS = re.compile(
    r"(best|median|worst|recording|phase|interpolation|prior|generated|reconstructed|nearest)-[\w.-]+\.wav"
)


@dataclass(frozen=True)
class SoundFormat:
    """An audio format for pages.

    Attributes:
        name: Name to show.
        media: Media type for browsers.
        container, codec: Format and subtype of libsndfile.
        exact: Whether each sample equals that of the 16-bit WAV.
    """

    name: str
    media: str
    container: str
    codec: str
    exact: bool


FLAC = SoundFormat("FLAC", "audio/flac", "FLAC", "PCM_16", exact=True)
WAV = SoundFormat("WAV", "audio/wav", "WAV", "PCM_16", exact=True)
BLOCK = 1 << 16  # samples; libsndfile's Vorbis encoder writes nothing, or crashes, where it gets minutes at once
VORBIS = SoundFormat("Ogg Vorbis", "audio/ogg", "OGG", "VORBIS", exact=False)


def sound_url(audio: np.ndarray, rate: int, kept: SoundFormat = FLAC) -> str:
    """Audio as a data URL; samples are clipped to [-1, 1], and NaN becomes 0."""
    if kept is FLAC and audio.shape[-1] < SHORT_S * rate:
        kept = WAV
    file = io.BytesIO()
    more = {} if kept.exact else {"compression_level": COMPRESSION}
    samples = clipped(audio).T
    with soundfile.SoundFile(file, "w", rate, audio.ndim, kept.codec, format=kept.container, **more) as writer:
        for begin in range(0, len(samples), BLOCK):
            writer.write(samples[begin : begin + BLOCK])
    return data_url(kept.media, file.getvalue())


def to_host(audio: Tensor) -> np.ndarray:
    """Copies a sound, [T], [1, T] or [2, T], to the host: [T] or [2, T] float32."""
    return (audio.squeeze(0) if audio.ndim == 2 else audio).float().cpu().numpy()


def clipped(audio: np.ndarray) -> np.ndarray:
    """Audio as float32 clipped to [-1, 1], with NaN replaced by 0."""
    return np.nan_to_num(audio.astype(np.float32), nan=0.0, posinf=1.0, neginf=-1.0).clip(-1, 1)


def write_wavs(folder: Path, sounds: dict[str, np.ndarray], rate: int, inside: Path | None = None) -> None:
    """Writes sounds by name as 16-bit WAV files, and deletes those of an earlier report that this one lacks.

    Args:
        folder: Created when missing.
        sounds: Audio by file name without ending.
        rate: Hz.
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
    """Writes audio atomically as a 16-bit WAV file; see `shards.files` for `inside`."""
    file = io.BytesIO()  # libsndfile does not report why a write failed
    soundfile.write(file, clipped(audio).T, rate, format="WAV", subtype="PCM_16")
    write_atomically(path, file.getvalue(), inside)
