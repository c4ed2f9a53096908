"""Audio files of any format, rate and number of channels as mono blocks at a wanted rate; damage is an error.

`shards` and `audiovae` decode by this module alone: a file is whole for both of them, or for none.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

from shards.audio import ogg

BLOCK = 1 << 16  # frames decoded at a time: they stay in the processor's cache until they are resampled
# Sample rates in Hz that a header may name. A rate of 1 Hz would turn a small file into days of samples.
RATES = (1_000, 1_000_000)

# What libsndfile notes when a file ends before the length that its header promises.
_SHORTER = re.compile(r"^ *(?:data|riff|SSND|Data Size) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_COUNT_DIFFERS = re.compile(r"Calculated frame count (\d+) does not match value from .* of (\d+)")
_UNKNOWN_LENGTH = 0x7FFF0000  # encoders that write to a pipe promise this much or more


class DecodingError(Exception):
    """Why a file gives no audio, in a few words that begin with the kind: unreadable, truncated, empty, not finite."""

    @property
    def kind(self) -> str:
        """The word before the colon."""
        return str(self).partition(":")[0]

    @property
    def detail(self) -> str:
        """The words after the colon."""
        return str(self).partition(": ")[2]


class AudioFile:
    """An open audio file that looks whole.

    Attributes:
        rate: Hz, as recorded.
        channels: As recorded.
    """

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self.rate: int = file.samplerate
        self.channels: int = file.channels

    def mono(self, rate: int, on_progress: Callable[[float], None] = lambda seconds: None) -> Iterator[np.ndarray]:
        """The mean of the channels at `rate` Hz as float32 blocks [n]; each is valid until the next one.

        `on_progress` gets the seconds of each block. Raises DecodingError for a file that is truncated or corrupt.
        """
        file = self._file
        resampler = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
        frames = BLOCK if file.channels <= 2 else max(1, 2 * BLOCK // file.channels)
        wide = np.empty((frames, file.channels), np.float32)
        # Samples of 16 bits are exact in float32 and in a sum of them: read as they are, a WAV takes half the time.
        buffer, full_scale = (np.empty(wide.shape, np.int16), 32768) if file.subtype == "PCM_16" else (wide, 1)
        mean = np.float32(1 / (file.channels * full_scale))
        mono = np.empty(frames, np.float32)
        decoded = 0
        while True:
            try:
                block = file.read(out=buffer)
            except Exception as error:
                raise DecodingError(reason(error)) from None
            decoded += len(block)
            last = len(block) < frames
            if buffer is not wide:
                wide[: len(block)] = block  # at once: casting column by column takes twice as long
            mixed = _mix(wide[: len(block)], mono[: len(block)])
            mixed *= mean
            yield mixed if file.samplerate == rate else resampler.resample_chunk(mixed, last=last)
            on_progress(len(block) / file.samplerate)
            if last:
                break
        if decoded < file.frames < 2**62:  # libsndfile's word for an unknown length is 2**63 - 1
            raise DecodingError(f"truncated or corrupt: {decoded} of {file.frames} frames could be decoded")


@contextmanager
def open_audio(path: str | Path) -> Iterator[AudioFile]:
    """A file of any format that libsndfile reads; raises DecodingError when it is unreadable or truncated."""
    try:
        file = soundfile.SoundFile(path)
    except Exception as error:  # soundfile raises many kinds, from TypeError to its own
        raise DecodingError(reason(error)) from None
    with file:
        check_rate(file.samplerate)
        try:
            check_whole(path, file)
        except OSError as error:
            raise DecodingError(reason(error)) from None
        yield AudioFile(file)


def check_rate(rate: int) -> None:
    """Raises DecodingError for a sample rate that no recording has."""
    if not RATES[0] <= rate <= RATES[1]:
        raise DecodingError(f"unreadable: its header names a rate of {rate:,} Hz, not {RATES[0]:,} to {RATES[1]:,}")


def check_whole(path: str | Path, file: soundfile.SoundFile) -> None:
    """Raises DecodingError when a file is shorter than its own header says."""
    log = file.extra_info
    for found in _SHORTER.finditer(log):
        promised, present = int(found[1]), int(found[2])
        if present + 1 < promised < _UNKNOWN_LENGTH:  # one byte may be padding
            raise DecodingError(f"truncated: {present} of {promised} bytes")
    counts = _COUNT_DIFFERS.search(log)
    if counts and int(counts[1]) < int(counts[2]):
        raise DecodingError(f"truncated: {counts[1]} of {counts[2]} frames")
    if file.format == "OGG" and not ogg.ends_whole(path):
        raise DecodingError("truncated: its last Ogg page is incomplete")


def _mix(block: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Sum of the channels, float32 [n, channels] -> [n]. NumPy's own sum along this axis takes 20 times as long."""
    if block.shape[1] == 1:
        out[:] = block[:, 0]
        return out
    np.add(block[:, 0], block[:, 1], out=out)
    for channel in range(2, block.shape[1]):
        out += block[:, channel]
    return out


def reason(error: Exception) -> str:
    """An exception of soundfile without the path that it repeats, as one line."""
    text = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
    return "unreadable: " + " ".join(text.split()).removeprefix("Error : ").rstrip(".")
