"""Recordings as files and as arrays: any format, rate and number of channels in, mono at a model's rate out."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from safetensors import SafetensorError
from torch import Tensor

from audiovae.errors import ModelError


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
        audio, own_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as audio ({error})") from None
    try:
        return as_recording(audio.mean(1), own_rate, rate)
    except ModelError:
        raise ModelError(f"{path}: holds no audio, or values that are not finite") from None


def write_recording(path: str | Path, audio: Tensor, rate: int) -> None:
    """Writes [T] float in [-1, 1] as mono 16-bit WAV, whole or not at all; what is beyond is clipped.

    Raises:
        ModelError: when it cannot be written, or the name does not end in .wav.
    """
    check_wav(path)
    samples = audio.detach().cpu().float().numpy().clip(-1, 1)
    write_whole(path, lambda file: soundfile.write(file, samples, rate, subtype="PCM_16", format="WAV"))


def check_wav(path: str | Path) -> None:
    """Raises ModelError when a file to write is not named .wav."""
    if Path(path).suffix.lower() != ".wav":
        raise ModelError(f"{path}: the output is a WAV file, name it .wav")


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Lets `write` write a file aside and puts it in place; the folder is made when missing.

    Raises:
        ModelError: when it cannot be written; then nothing is left of it.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        aside.replace(path)
    except (soundfile.LibsndfileError, SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be written ({error})") from None
    finally:
        if aside.is_file():
            aside.unlink()
