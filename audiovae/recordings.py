"""Recordings as files and as arrays: any format, rate and number of channels in, mono at a model's rate out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.output import check_output, write_whole

# Frames of a recording that are decoded at a time.
BLOCK = 1 << 18


def as_recording(audio: Tensor | np.ndarray, own_rate: int, rate: int) -> Tensor:
    """Audio as models take it: mono by the mean of the channels, at `rate` Hz.

    Args:
        audio: [T] or [T, channels] real numbers in [-1, 1]; channels last, as soundfile gives them.
        own_rate: Hz of the audio.
        rate: Hz wanted.

    Returns:
        [T'] float32 on the CPU.

    Raises:
        ModelError: when it is of another shape, empty or not finite.
    """
    values = audio.detach().cpu().numpy() if isinstance(audio, Tensor) else np.asarray(audio)
    if (
        values.ndim not in (1, 2)
        or values.dtype.kind != "f"
        or (values.ndim == 2 and values.shape[1] > values.shape[0])
    ):
        raise ModelError(
            f"audio of shape {list(values.shape)}, {values.dtype}: give [T] or [T, channels] floats in [-1, 1]"
        )
    mono = values.astype(np.float32) if values.ndim == 1 else values.astype(np.float32).mean(1)
    mono = soxr.resample(mono, own_rate, rate, quality="HQ")
    if not len(mono) or not np.isfinite(mono).all():
        raise ModelError("the audio holds nothing, or values that are not finite")
    return torch.from_numpy(mono)


def read_recording(path: str | Path, rate: int) -> Tensor:
    """A file of any format that libsndfile reads, as [T] float32, mono at `rate` Hz.

    Raises:
        ModelError: when it cannot be read or holds nothing to use.
    """
    try:
        with soundfile.SoundFile(path) as file:
            pieces = list(_resampled(file, rate))
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError) as error:  # raw formats, names that are no text
        raise ModelError(f"{path}: cannot be read as audio ({error})") from None
    audio = np.concatenate([np.zeros(0, np.float32), *pieces])
    if not len(audio) or not np.isfinite(audio).all():
        raise ModelError(f"{path}: holds no audio, or values that are not finite")
    return torch.from_numpy(audio)


def _resampled(file: soundfile.SoundFile, rate: int) -> Iterator[np.ndarray]:
    """Mono pieces at `rate` Hz: a header's length, which streams do not know, is not believed."""
    stream = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
    last = False
    while not last:
        block = file.read(BLOCK, dtype="float32", always_2d=True)
        last = len(block) < BLOCK
        mono = np.ascontiguousarray(block.mean(1))
        yield mono if file.samplerate == rate else stream.resample_chunk(mono, last=last)


def write_recording(path: str | Path, audio: Tensor, rate: int) -> None:
    """Writes [T] float in [-1, 1] as mono 16-bit WAV, whole or not at all; what is beyond is clipped.

    Raises:
        ModelError: when the audio is not finite or of another shape, when it cannot be written, or the name does not
            end in .wav.
    """
    check_wav(path)
    if audio.ndim != 1 or not audio.isfinite().all():
        raise ModelError(f"{path}: not written, the audio is of shape {list(audio.shape)} or not finite")
    samples = audio.detach().cpu().float().numpy().clip(-1, 1)
    write_whole(path, lambda file: soundfile.write(file, samples, rate, subtype="PCM_16", format="WAV"))


def check_wav(path: str | Path) -> None:
    """Raises ModelError when a file to write is not named .wav, or cannot be written there."""
    if Path(path).suffix.lower() != ".wav":
        raise ModelError(f"{path}: the output is a WAV file, name it .wav")
    check_output(path)
