"""Recordings as files and as arrays: any format, rate and number of channels in, mono at a model's rate out."""

import io
import warnings
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from audiovae.errors import ModelError, ModelWarning
from audiovae.inputs import check_input
from audiovae.output import check_output, write_whole
from shards.audio.decoding import DecodingError, open_audio


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
    if problem := _unusable(mono):
        raise ModelError(f"the audio {problem}")
    return torch.from_numpy(mono)


def _unusable(mono: np.ndarray) -> str:
    """Why [T] is no recording; empty when it is one."""
    if not len(mono):
        return "holds no audio"
    return "" if np.isfinite(mono).all() else "holds values that are not finite (NaN or infinity)"


def read_recording(path: str | Path, rate: int) -> Tensor:
    """A file of any format that libsndfile reads, as [T] float32, mono at `rate` Hz.

    Shards are built by the same decoder: what it refuses here has no chunks there.

    Raises:
        ModelError: when it cannot be read, ends before the length in its header, or holds nothing to use.
    """
    check_input(path, "audio")
    try:
        with open_audio(path) as file:
            pieces = [block.copy() for block in file.mono(rate)]
    except DecodingError as error:
        if error.kind == "unreadable":
            raise ModelError(f"{path}: cannot be read as audio ({error.detail})") from None
        raise ModelError(f"{path}: {error}; get the whole file, or save it again with an audio editor") from None
    audio = np.concatenate([np.zeros(0, np.float32), *pieces])
    if problem := _unusable(audio):
        raise ModelError(f"{path}: {problem}")
    return torch.from_numpy(audio)


def write_recording(path: str | Path, audio: Tensor | np.ndarray, rate: int) -> None:
    """Writes [T] float in [-1, 1] as mono 16-bit WAV, whole or not at all.

    What is beyond full scale is clipped, and a ModelWarning says how much.

    Raises:
        ModelError: when the audio is not finite or of another shape, when it cannot be written, or the name does not
            end in .wav.
    """
    check_wav(path)
    audio = torch.as_tensor(audio)
    if audio.ndim != 1 or not audio.isfinite().all():
        raise ModelError(f"{path}: not written, the audio is of shape {list(audio.shape)} or not finite")
    samples = audio.detach().cpu().float().numpy()
    content = io.BytesIO()
    soundfile.write(content, samples.clip(-1, 1), rate, subtype="PCM_16", format="WAV")
    write_whole(path, content.getvalue())
    if beyond := int((np.abs(samples) > 1).sum()):
        peak, share = float(np.abs(samples).max()), 100 * beyond / len(samples)
        warnings.warn(
            f"{path}: {beyond:,} of {len(samples):,} samples ({share:.2g} %) were beyond full scale and are clipped, "
            f"the highest at {peak:.3g}",
            ModelWarning,
            stacklevel=2,
        )


def check_wav(path: str | Path) -> None:
    """Raises ModelError when a file to write is not named .wav, or cannot be written there."""
    if Path(path).suffix.lower() != ".wav":
        raise ModelError(f"{path}: the output is a WAV file, name it .wav")
    check_output(path)
