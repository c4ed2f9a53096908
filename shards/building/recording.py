"""One recording: decoded, mixed to mono, resampled, levelled, as 16-bit samples."""

import math
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from shards.building import ogg

PEAK = 0.95  # full scale is 1
RMS = 0.1  # -20 dBFS
RMS_PEAK_LIMIT = 0.99
SILENCE = 1e-4  # -80 dBFS
BLOCK = 1 << 16  # frames decoded at a time: they stay in the processor's cache until they are resampled
IN_MEMORY = 1 << 24  # samples of a recording kept in memory, 64 MB; the rest waits in a file

# What libsndfile notes when a file ends before the length its header promises.
_SHORTER = re.compile(r"^ *(?:data|riff|SSND|Data Size) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_COUNT_DIFFERS = re.compile(r"Calculated frame count (\d+) does not match value from .* of (\d+)")
_UNKNOWN_LENGTH = 0x7FFF0000  # encoders that write to a pipe promise this much or more


class RecordingError(Exception):
    """Why a file gives no audio, in a few words."""


class _Signal:
    """The mono samples of one recording, float32; whenever the buffer is full they go on to a file without a name."""

    def __init__(self, buffer: np.ndarray, folder: Path):
        self.samples = 0
        self.high = self.low = self.squares = 0.0
        self._buffer, self._folder = buffer, folder
        self._filled = 0
        self._wide = np.empty(BLOCK, np.float64)
        self._file: BinaryIO | None = None

    def add(self, audio: np.ndarray) -> None:
        """Append float32 [n]. Raises RecordingError when a sample is no finite number."""
        for begin in range(0, len(audio), BLOCK):  # raising the rate makes long blocks
            self._add(audio[begin : begin + BLOCK])

    def _add(self, block: np.ndarray) -> None:
        high, low = float(block.max()), float(block.min())
        if not (math.isfinite(high) and math.isfinite(low)):
            raise RecordingError("not finite: it has NaN or infinite samples")
        self.high, self.low = max(self.high, high), min(self.low, low)
        wide = self._wide[: len(block)]
        wide[:] = block
        self.squares += float(np.square(wide, out=wide).sum())
        self.samples += len(block)
        if self._filled + len(block) > len(self._buffer):
            self._file = self._file or tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - see close
            self._file.write(self._buffer[: self._filled].data)
            self._filled = 0
        self._buffer[self._filled : self._filled + len(block)] = block
        self._filled += len(block)

    def __iter__(self) -> Iterator[np.ndarray]:
        """All of them, in blocks of at most BLOCK."""
        if self._file:
            self._file.seek(0)
            while len(block := np.frombuffer(self._file.read(4 * BLOCK), np.float32)):
                yield block
        for begin in range(0, self._filled, BLOCK):
            yield self._buffer[begin : min(begin + BLOCK, self._filled)]

    def close(self) -> None:
        """Let go of the file."""
        if self._file:
            self._file.close()


@dataclass(frozen=True)
class Recording:
    """A decoded recording and its facts."""

    signal: _Signal
    samples: int
    duration_s: float
    rate: int  # Hz, as recorded
    channels: int
    gain: float
    peak: float  # of the mono recording before the gain, full scale 1
    rms: float
    note: str

    @property
    def silent(self) -> bool:
        """Whether it never rises above -80 dBFS."""
        return self.peak < SILENCE

    def audio(self) -> Iterator[np.ndarray]:
        """Its samples after the gain, as blocks of int16 [n] that are valid until the next one."""
        scale = np.float32(self.gain * 32768)
        clips = self.peak * float(scale) > 32767
        scaled, rounded = np.empty(BLOCK, np.float32), np.empty(BLOCK, "<i2")
        for block in self.signal:
            piece, result = scaled[: len(block)], rounded[: len(block)]
            np.rint(np.multiply(block, scale, out=piece), out=piece)
            if clips:
                np.clip(piece, -32768, 32767, out=piece)
            result[:] = piece
            yield result


class Decoder:
    """Reads files as mono at ``rate`` Hz, one at a time.

    ``level`` is ``peak`` (to 0.95 of full scale), ``rms`` (to -20 dBFS, the peak at most 0.99) or ``none``. Of a
    recording that is longer than ``IN_MEMORY`` samples the rest waits in a file in ``scratch``.
    """

    def __init__(self, rate: int, level: str, scratch: Path):
        self._rate, self._level, self._scratch = rate, level, scratch
        self._buffer = np.empty(max(IN_MEMORY, BLOCK), np.float32)

    @contextmanager
    def read(self, path: str | Path, heard: Callable[[float], None] = lambda seconds: None) -> Iterator[Recording]:
        """A recording that is valid until the context ends; ``heard`` is told the seconds of each block.

        Raises RecordingError with the reason when the file is unreadable, truncated, empty or not finite,
        OSError when the scratch folder cannot be written.
        """
        signal = _Signal(self._buffer, self._scratch)
        try:
            with _opened(path) as file:
                for block in _resampled(file, self._rate, heard):
                    signal.add(block)
                rate, channels = file.samplerate, file.channels
            if not signal.samples:
                raise RecordingError("empty: it has no samples")
            yield self._levelled(signal, rate, channels)
        finally:
            signal.close()

    def _levelled(self, signal: _Signal, rate: int, channels: int) -> Recording:
        peak = max(signal.high, -signal.low)
        rms = math.sqrt(signal.squares / signal.samples)
        gain = 1.0 if peak < SILENCE else _gain(self._level, peak, rms)
        note = ""
        if peak < SILENCE:
            note = "silent: never above -80 dBFS"
        elif peak * gain > 1:
            note = f"clipped: its peak is {peak:.2f} of full scale"
        return Recording(signal, signal.samples, signal.samples / self._rate, rate, channels, gain, peak, rms, note)


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    try:
        file = soundfile.SoundFile(path)
        check_whole(path, file)
    except RecordingError:
        raise
    except Exception as error:  # soundfile raises many kinds, from TypeError to its own
        raise RecordingError(reason(error)) from None
    with file:
        yield file


def check_whole(path: str | Path, file: soundfile.SoundFile) -> None:
    """Raise RecordingError when a file is shorter than its own header says."""
    log = file.extra_info
    for found in _SHORTER.finditer(log):
        promised, present = int(found[1]), int(found[2])
        if present + 1 < promised < _UNKNOWN_LENGTH:  # one byte may be padding
            raise RecordingError(f"truncated: {present} of {promised} bytes")
    counts = _COUNT_DIFFERS.search(log)
    if counts and int(counts[1]) < int(counts[2]):
        raise RecordingError(f"truncated: {counts[1]} of {counts[2]} frames")
    if file.format == "OGG" and not ogg.ends_whole(path):
        raise RecordingError("truncated: its last Ogg page is incomplete")


def _resampled(file: soundfile.SoundFile, rate: int, heard: Callable[[float], None]) -> Iterator[np.ndarray]:
    """Mono float32 blocks at ``rate`` Hz, valid until the next one."""
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
            raise RecordingError(reason(error)) from None
        decoded += len(block)
        last = len(block) < frames
        if buffer is not wide:
            wide[: len(block)] = block  # at once: casting column by column takes twice as long
        mixed = _mix(wide[: len(block)], mono[: len(block)])
        mixed *= mean
        yield mixed if file.samplerate == rate else resampler.resample_chunk(mixed, last=last)
        heard(len(block) / file.samplerate)
        if last:
            break
    if decoded < file.frames < 2**62:  # libsndfile's word for an unknown length is 2**63 - 1
        raise RecordingError(f"truncated or corrupt: {decoded} of {file.frames} frames could be decoded")


def _mix(block: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Sum of the channels, float32 [n, channels] -> [n]. NumPy's own sum along this axis takes 20 times as long."""
    if block.shape[1] == 1:
        out[:] = block[:, 0]
        return out
    np.add(block[:, 0], block[:, 1], out=out)
    for channel in range(2, block.shape[1]):
        out += block[:, channel]
    return out


def _gain(level: str, peak: float, rms: float) -> float:
    if level == "peak":
        return PEAK / peak
    if level == "rms":
        return min(RMS / rms, RMS_PEAK_LIMIT / peak)
    return 1.0


def reason(error: Exception) -> str:
    """An exception of soundfile without the path it repeats, as one line."""
    text = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
    return "unreadable: " + " ".join(text.split()).removeprefix("Error : ").rstrip(".")
