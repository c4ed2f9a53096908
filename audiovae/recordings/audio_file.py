"""Reads and writes recordings. Input has any format, sample rate and number of channels; models take mono audio."""

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
from shards.audio.decoding import decode
from shards.audio.errors import DecodingError


def as_recording(audio: Tensor | np.ndarray, own_rate: int, rate: int) -> Tensor:
    """Converts audio to the input of a model: mono, the mean of the channels, at `rate` Hz.

    Args:
        audio: [T] or [T, channels] floats in [-1, 1]; channels last, as soundfile returns them.
        own_rate: Sample rate of the audio in Hz.
        rate: Wanted sample rate in Hz.

    Returns:
        [T'] float32 on the CPU.

    Raises:
        ModelError: if the audio has another shape or type, is empty or not finite.
    """
    values = audio.detach().cpu().numpy() if isinstance(audio, Tensor) else np.asarray(audio)
    if (
        values.ndim not in (1, 2)
        or values.dtype.kind != "f"
        or (values.ndim == 2 and values.shape[1] > values.shape[0])
    ):
        raise ModelError(
            f"audio of shape {list(values.shape)}, {values.dtype}: expected [T] or [T, channels] floats in [-1, 1]"
        )
    mono = values.astype(np.float32) if values.ndim == 1 else values.astype(np.float32).mean(1)
    mono = soxr.resample(mono, own_rate, rate, quality="HQ")
    if problem := _unusable(mono):
        raise ModelError(f"the audio {problem}")
    return torch.from_numpy(mono)


def _unusable(mono: np.ndarray) -> str:
    """Why [T] is not usable as a recording; empty if it is."""
    if not len(mono):
        return "holds no audio"
    return "" if np.isfinite(mono).all() else "holds values that are not finite (NaN or infinity)"


class _Pieces:
    """Keeps the blocks of a decoder."""

    def __init__(self) -> None:
        self.pieces: list[np.ndarray] = []

    def add(self, audio: np.ndarray) -> None:
        self.pieces.append(audio.copy())

    def restart(self) -> None:
        self.pieces.clear()


def read_recording(path: str | Path, rate: int) -> Tensor:
    """Reads a file in any format that libsndfile or FFmpeg read, as [T] float32, mono at `rate` Hz.

    `shards build` uses the same decoders and refuses the same files. What is odd about a file, such as a missing end,
    is a ModelWarning.

    Raises:
        ModelError: if the file cannot be read, less than half of it is there, or it holds no usable audio.
    """
    check_input(path, "audio")
    output = _Pieces()
    try:
        facts = decode(path, rate, output)
    except DecodingError as error:
        if error.kind == "unreadable":
            raise ModelError(f"{path}: cannot be read as audio ({error.detail})") from None
        raise ModelError(f"{path}: {error}; get a complete copy, or save it again with an audio editor") from None
    audio = np.concatenate([np.zeros(0, np.float32), *output.pieces])
    if problem := _unusable(audio):
        raise ModelError(f"{path}: {problem}")
    if facts.note:
        warnings.warn(f"{path}: {facts.note}", ModelWarning, stacklevel=2)
    return torch.from_numpy(audio)


def write_recording(path: str | Path, audio: Tensor | np.ndarray, rate: int) -> None:
    """Writes [T] floats in [-1, 1] as a mono 16-bit WAV file; the write is atomic.

    Samples beyond full scale are clipped with a ModelWarning.

    Raises:
        ModelError: if the audio is not finite or has another shape, the file cannot be written, or its name does not
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
            f"{path}: {beyond:,} of {len(samples):,} samples ({share:.2g} %) were beyond full scale and are clipped; "
            f"the peak was {peak:.3g}",
            ModelWarning,
            stacklevel=2,
        )


def check_wav(path: str | Path) -> None:
    """Raises ModelError if the name of an output file does not end in .wav, or it cannot be written there."""
    if Path(path).suffix.lower() != ".wav":
        raise ModelError(f"{path}: the output is a WAV file; its name must end in .wav")
    check_output(path)
