"""Reads and writes recordings. Input has any format, sample rate and number of channels; models take mono audio."""

import io
import struct
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from audiovae.errors import ModelError, ModelWarning
from audiovae.inputs import check_input
from audiovae.output import check_output, write_whole
from shards.audio.decoding import Output, decode
from shards.audio.errors import DecodingError

# A WAV file holds this many samples of 16 bits: its sizes are numbers of 32 bits.
LONGEST_WAV = (1 << 31) - 64


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
    output = _Pieces()
    note = decode_into(path, rate, output)
    audio = np.concatenate([np.zeros(0, np.float32), *output.pieces])
    if problem := _unusable(audio):
        raise ModelError(f"{path}: {problem}")
    if note:
        warnings.warn(note, ModelWarning, stacklevel=2)
    return torch.from_numpy(audio)


def decode_into(path: str | Path, rate: int, output: Output) -> str:
    """Decodes a file as `read_recording` does, block by block; returns what is odd about it, or nothing.

    Raises:
        ModelError: if the file cannot be read, or less than half of it is there.
    """
    check_input(path, "audio")
    try:
        facts = decode(path, rate, output)
    except DecodingError as error:
        if error.kind == "unreadable":
            raise ModelError(f"{path}: cannot be read as audio ({error.detail})") from None
        raise ModelError(f"{path}: {error}; get a complete copy, or save it again with an audio editor") from None
    return f"{path}: {facts.note}" if facts.note else ""


def write_recording(path: str | Path, audio: Tensor | np.ndarray, rate: int) -> None:
    """Writes [T] floats in [-1, 1] as a mono 16-bit WAV file; the write is atomic.

    Samples beyond full scale are clipped with a ModelWarning.

    Raises:
        ModelError: if the audio is not finite or has another shape, the file cannot be written, or its name does not
            end in .wav.
    """
    audio = torch.as_tensor(audio)
    _warn(write_pieces(path, [audio], audio.numel(), rate))


def write_pieces(path: str | Path, pieces: Iterable[Tensor], length: int, rate: int) -> str:
    """As `write_recording`, for a recording of `length` samples that is made while it is written.

    Args:
        path: The WAV file to write.
        pieces: Floats [n] one after the other, `length` of them in all.
        length: Samples of the whole.
        rate: Hz.

    Returns:
        The warning if samples were clipped, else nothing.
    """
    check_wav(path)
    if length > LONGEST_WAV:
        raise ModelError(
            f"{path}: not written, a WAV file holds {LONGEST_WAV:,} samples, not {length:,}; cut the input"
        )
    beyond, peak = 0, 0.0

    def content() -> Iterator[bytes]:
        nonlocal beyond, peak
        yield _wav_header(length, rate)
        for piece in pieces:
            if piece.ndim != 1 or not piece.isfinite().all():
                raise ModelError(f"{path}: not written, the audio is of shape {list(piece.shape)} or not finite")
            samples = piece.detach().cpu().float().numpy()
            beyond += int((np.abs(samples) > 1).sum())
            peak = max(peak, float(np.abs(samples).max(initial=0)))
            whole_numbers = io.BytesIO()
            soundfile.write(whole_numbers, samples.clip(-1, 1), rate, subtype="PCM_16", format="RAW", endian="LITTLE")
            yield whole_numbers.getvalue()

    write_whole(path, content())
    if not beyond:
        return ""
    return (
        f"{path}: {beyond:,} of {length:,} samples ({100 * beyond / length:.2g} %) were beyond full scale and are "
        f"clipped; the peak was {peak:.3g}"
    )


def _wav_header(length: int, rate: int) -> bytes:
    """The 44 bytes before mono samples of 16 bits (Microsoft and IBM 1991, "Multimedia Programming Interface")."""
    size = 2 * length
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size
    )


def _warn(warning: str) -> None:
    if warning:
        warnings.warn(warning, ModelWarning, stacklevel=3)


def check_wav(path: str | Path) -> None:
    """Raises ModelError if the name of an output file does not end in .wav, or it cannot be written there."""
    if Path(path).suffix.lower() != ".wav":
        raise ModelError(f"{path}: the output is a WAV file; its name must end in .wav")
    check_output(path)
