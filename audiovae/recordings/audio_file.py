"""Reads and writes recordings. Input has any format, sample rate and number of channels.

Mono models take recordings [T], stereo models left and right [2, T].
"""

import io
import reprlib
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


def as_recording(audio: Tensor | np.ndarray, own_rate: int, rate: int, channels: int = 1) -> Tensor:
    """Converts audio to the input of a model at `rate` Hz: mono, the mean of the channels, or stereo.

    Args:
        audio: [T] or [T, channels] floats in [-1, 1]; channels last, as soundfile returns them.
        own_rate: Sample rate of the audio in Hz.
        rate: Wanted sample rate in Hz.
        channels: 1 for mono; 2 for left and right, which are the first two channels, or the only one twice.

    Returns:
        [T'], of stereo [2, T'], float32 on the CPU.

    Raises:
        ModelError: if the audio has another shape or type, is empty or not finite, or for other channels than 1 or 2.
    """
    _check_channels(channels)
    values = audio.detach().cpu().numpy() if isinstance(audio, Tensor) else np.asarray(audio)
    if (
        values.ndim not in (1, 2)
        or values.dtype.kind != "f"
        or (values.ndim == 2 and not 0 < values.shape[1] <= values.shape[0])
    ):
        raise ModelError(
            f"audio of shape {list(values.shape)}, {values.dtype}: expected [T] or [T, channels] floats in [-1, 1]"
        )
    if not len(values):
        raise ModelError("the audio holds no audio")
    values = values.astype(np.float32)
    if channels == 2:
        values = np.ascontiguousarray(np.broadcast_to(values.reshape(len(values), -1)[:, :2], (len(values), 2)))
    elif values.ndim == 2:
        values = values.mean(1)
    values = soxr.resample(values, own_rate, rate, quality="HQ")
    if problem := _unusable(values):
        raise ModelError(f"the audio {problem}")
    return _channels_first(values)


def _check_channels(channels: int) -> None:
    """Raises ModelError unless there are 1 or 2."""
    if type(channels) is not int or channels not in (1, 2):
        raise ModelError(f"channels is {reprlib.repr(channels)}: choose 1 or 2")


def _channels_first(values: np.ndarray) -> Tensor:
    """[T] as it is, or [T, 2] -> [2, T]."""
    return torch.from_numpy(np.ascontiguousarray(values.T))


def _unusable(values: np.ndarray) -> str:
    """Why [T] or [T, 2] is not usable as a recording; empty if it is."""
    if not len(values):
        return "holds no audio"
    return "" if np.isfinite(values).all() else "holds values that are not finite (NaN or infinity)"


class _Pieces:
    """Keeps the blocks of a decoder."""

    def __init__(self) -> None:
        self.pieces: list[np.ndarray] = []

    def add(self, audio: np.ndarray) -> None:
        self.pieces.append(audio.copy())

    def restart(self) -> None:
        self.pieces.clear()


def read_recording(path: str | Path, rate: int, channels: int = 1) -> Tensor:
    """Reads a file in any format that libsndfile or FFmpeg read, at `rate` Hz.

    Args:
        path: The file.
        rate: Hz.
        channels: 1 for mono, 2 for stereo.

    Returns:
        Float32 [T], the mean of the channels; of stereo [2, T], as `shards build --channels 2` takes it.

    `shards build` uses the same decoders and refuses the same files. What is odd about a file, such as a missing end,
    is a ModelWarning.

    Raises:
        ModelError: if the file cannot be read, less than half of it is there, it holds no usable audio, or for other
            channels than 1 or 2.
    """
    _check_channels(channels)
    output = _Pieces()
    note = decode_into(path, rate, output, channels)
    audio = np.concatenate([np.zeros((0, 2)[:channels], np.float32), *output.pieces])
    if problem := _unusable(audio):
        raise ModelError(f"{path}: {problem}")
    if note:
        warnings.warn(note, ModelWarning, stacklevel=2)
    return _channels_first(audio)


def decode_into(path: str | Path, rate: int, output: Output, channels: int = 1) -> str:
    """Decodes a file as `read_recording` does, block by block; returns what is odd about it, or nothing.

    Blocks are [n], of stereo [n, 2].

    Raises:
        ModelError: if the file cannot be read, or less than half of it is there.
    """
    check_input(path, "audio")
    try:
        facts = decode(path, rate, output, outputs=channels)
    except DecodingError as error:
        if error.kind == "unreadable":
            raise ModelError(f"{path}: cannot be read as audio ({error.detail})") from None
        raise ModelError(f"{path}: {error}; get a complete copy, or save it again with an audio editor") from None
    return f"{path}: {facts.note}" if facts.note else ""


def write_recording(path: str | Path, audio: Tensor | np.ndarray, rate: int) -> None:
    """Writes [T] or [2, T] floats in [-1, 1] as a 16-bit WAV file, mono or stereo; the write is atomic.

    Samples beyond full scale are clipped with a ModelWarning.

    Raises:
        ModelError: if the audio is not finite or has another shape, the file cannot be written, or its name does not
            end in .wav.
    """
    audio = torch.as_tensor(audio)
    if audio.ndim not in (1, 2) or (audio.ndim == 2 and len(audio) != 2):
        raise ModelError(f"{path}: not written, audio of shape {list(audio.shape)}: expected [T] or [2, T]")
    _warn(write_pieces(path, [audio], audio.shape[-1], rate, audio.ndim))


def check_length(path: str | Path, length: int, channels: int) -> None:
    """Raises ModelError if a WAV file cannot hold so many samples of each channel."""
    if length * channels > LONGEST_WAV:
        most = LONGEST_WAV // channels
        raise ModelError(f"{path}: not written, a WAV file holds {most:,} samples, not {length:,}; cut the input")


def write_pieces(path: str | Path, pieces: Iterable[Tensor], length: int, rate: int, channels: int = 1) -> str:
    """As `write_recording`, for a recording of `length` samples that is made while it is written.

    Args:
        path: The WAV file to write.
        pieces: Floats [n], of stereo [2, n], one after the other, `length` of them in all.
        length: Samples of a channel of the whole.
        rate: Hz.
        channels: 1 or 2.

    Returns:
        The warning if samples were clipped, else nothing.
    """
    check_wav(path)
    check_length(path, length, channels)
    beyond, peak = 0, 0.0

    def content() -> Iterator[bytes]:
        nonlocal beyond, peak
        yield _wav_header(length, rate, channels)
        for piece in pieces:
            if piece.ndim != channels or not piece.isfinite().all():
                raise ModelError(f"{path}: not written, the audio is of shape {list(piece.shape)} or not finite")
            samples = piece.detach().cpu().float().numpy().T
            beyond += int((np.abs(samples) > 1).sum())
            peak = max(peak, float(np.abs(samples).max(initial=0)))
            whole_numbers = io.BytesIO()
            soundfile.write(whole_numbers, samples.clip(-1, 1), rate, subtype="PCM_16", format="RAW", endian="LITTLE")
            yield whole_numbers.getvalue()

    write_whole(path, content())
    if not beyond:
        return ""
    whole = length * channels
    return (
        f"{path}: {beyond:,} of {whole:,} samples ({100 * beyond / whole:.2g} %) were beyond full scale and are "
        f"clipped; the peak was {peak:.3g}"
    )


def _wav_header(length: int, rate: int, channels: int) -> bytes:
    """The 44 bytes before samples of 16 bits (Microsoft and IBM 1991, "Multimedia Programming Interface")."""
    frame = 2 * channels
    size = frame * length
    form = 16, 1, channels, rate, frame * rate, frame, 16
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", *form, b"data", size)


def _warn(warning: str) -> None:
    if warning:
        warnings.warn(warning, ModelWarning, stacklevel=3)


def check_wav(path: str | Path) -> None:
    """Raises ModelError if the name of an output file does not end in .wav, or it cannot be written there."""
    if Path(path).suffix.lower() != ".wav":
        raise ModelError(f"{path}: the output is a WAV file; its name must end in .wav")
    check_output(path)
