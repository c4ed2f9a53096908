"""Recordings as files and as arrays: any format, rate and number of channels in, mono at a model's rate out."""

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from audiovae.errors import ModelError, ModelWarning
from audiovae.output import check_output, write_whole
from shards.files import why_unreadable

# Frames of a recording that are decoded at a time.
BLOCK = 1 << 18
# What libsndfile notes when a file ends before the length that its header promises, in bytes.
_SHORTER = re.compile(r"^ *(?:data|riff|SSND|Data Size) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_LENGTH = 0x7FFF0000  # what writes to a pipe promises this much or more


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

    Raises:
        ModelError: when it cannot be read, ends before the length in its header, or holds nothing to use.
    """
    try:
        with soundfile.SoundFile(path) as file:
            _check_whole(path, file)
            pieces = list(_resampled(file, rate))
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError) as error:  # raw formats, names that are no text
        raise ModelError(f"{path}: cannot be read as audio ({why_unreadable(path, error)})") from None
    audio = np.concatenate([np.zeros(0, np.float32), *pieces])
    if problem := _unusable(audio):
        raise ModelError(f"{path}: {problem}")
    return torch.from_numpy(audio)


def _check_whole(path: str | Path, file: soundfile.SoundFile) -> None:
    """Raises ModelError when a file is shorter than its own header says."""
    for found in _SHORTER.finditer(file.extra_info):
        promised, present = int(found[1]), int(found[2])
        if present + 1 < promised < _UNKNOWN_LENGTH:  # one byte may be padding
            raise ModelError(
                f"{path}: truncated, {present:,} of {promised:,} bytes are there; get the whole file, or save what "
                "there is anew with an audio editor"
            )


def _resampled(file: soundfile.SoundFile, rate: int) -> Iterator[np.ndarray]:
    """Mono pieces at `rate` Hz: a header's length, which streams do not know, is not believed."""
    stream = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
    last, decoded = False, 0
    while not last:
        block = file.read(BLOCK, dtype="float32", always_2d=True)
        decoded += len(block)
        last = len(block) < BLOCK
        mono = np.ascontiguousarray(block.mean(1))
        yield mono if file.samplerate == rate else stream.resample_chunk(mono, last=last)
    if decoded < file.frames < 2**62:  # libsndfile's word for an unknown length is 2**63 - 1
        raise ValueError(f"truncated or corrupt: {decoded:,} of {file.frames:,} samples could be decoded")


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
