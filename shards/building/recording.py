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
    """Mono float32 blocks in the order they come; beyond IN_MEMORY samples they wait in a file without a name."""

    def __init__(self, folder: Path):
        self.samples = 0
        self.high = self.low = self.squares = 0.0
        self._folder = folder
        self._wide = np.empty(BLOCK, np.float64)
        self._blocks: list[np.ndarray] = []
        self._file: BinaryIO | None = None

    def add(self, block: np.ndarray) -> None:
        """Append float32 [n]. Raises RecordingError when a sample is no finite number."""
        for begin in range(0, len(block), BLOCK):  # raising the rate makes longer ones
            self._add(block[begin : begin + BLOCK])

    def _add(self, block: np.ndarray) -> None:
        high, low = float(block.max()), float(block.min())
        if not (math.isfinite(high) and math.isfinite(low)):
            raise RecordingError("not finite: it has NaN or infinite samples")
        self.high, self.low = max(self.high, high), min(self.low, low)
        wide = self._wide[: len(block)]
        wide[:] = block
        self.squares += float(np.square(wide, out=wide).sum())
        self.samples += len(block)
        self._blocks.append(block)
        if self.samples > IN_MEMORY:
            self._file = self._file or tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - see close
            for waiting in self._blocks:
                self._file.write(waiting.data)
            self._blocks.clear()

    def __iter__(self) -> Iterator[np.ndarray]:
        """The blocks, float32 [n] of at most BLOCK samples."""
        if self._file:
            self._file.seek(0)
            while len(block := np.frombuffer(self._file.read(4 * BLOCK), np.float32)):
                yield block
        yield from self._blocks

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


@contextmanager
def read_recording(
    path: str | Path, rate: int, level: str, scratch: Path, heard: Callable[[float], None] = lambda seconds: None
) -> Iterator[Recording]:
    """Read a file as mono at ``rate`` Hz; a long one leaves a file in ``scratch`` until the context ends.

    ``level`` is ``peak`` (to 0.95 of full scale), ``rms`` (to -20 dBFS, the peak at most 0.99) or ``none``;
    ``heard`` is told the seconds of each block. Raises RecordingError with the reason when the file is
    unreadable, truncated, empty or not finite, OSError when ``scratch`` cannot be written.
    """
    signal = _Signal(scratch)
    try:
        with _opened(path) as file:
            for block in _resampled(file, rate, heard):
                signal.add(block)
            recorded_rate, channels = file.samplerate, file.channels
        if not signal.samples:
            raise RecordingError("empty: it has no samples")
        peak = max(signal.high, -signal.low)
        rms = math.sqrt(signal.squares / signal.samples)
        gain = 1.0 if peak < SILENCE else _gain(level, peak, rms)
        note = ""
        if peak < SILENCE:
            note = "silent: never above -80 dBFS"
        elif peak * gain > 1:
            note = f"clipped: its peak is {peak:.2f} of full scale"
        yield Recording(
            signal=signal,
            samples=signal.samples,
            duration_s=signal.samples / rate,
            rate=recorded_rate,
            channels=channels,
            gain=gain,
            peak=peak,
            rms=rms,
            note=note,
        )
    finally:
        signal.close()


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
    found = _COUNT_DIFFERS.search(log)
    if found and int(found[1]) < int(found[2]):
        raise RecordingError(f"truncated: {found[1]} of {found[2]} frames")
    if file.format == "OGG" and not ogg.ends_whole(path):
        raise RecordingError("truncated: its last Ogg page is incomplete")


def _resampled(file: soundfile.SoundFile, rate: int, heard: Callable[[float], None]) -> Iterator[np.ndarray]:
    """Mono float32 blocks at ``rate`` Hz."""
    resampler = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
    # Samples of 16 bits are exact in float32 and in a sum of them: as they are, a WAV is read 7 times as fast.
    is_short = file.subtype == "PCM_16"
    frames = BLOCK if file.channels <= 2 else max(1, 2 * BLOCK // file.channels)
    buffer = np.empty((frames, file.channels), np.int16 if is_short else np.float32)
    mean = np.float32(1 / (file.channels * (32768 if is_short else 1)))
    mono = np.empty(frames, np.float32)
    decoded = 0
    while True:
        try:
            block = file.read(out=buffer)
        except Exception as error:
            raise RecordingError(reason(error)) from None
        decoded += len(block)
        last = len(block) < frames
        mixed = _mix(block, mono[: len(block)])
        mixed *= mean
        yield mixed.copy() if file.samplerate == rate else resampler.resample_chunk(mixed, last=last)
        heard(len(block) / file.samplerate)
        if last:
            break
    if decoded < file.frames < 2**62:  # libsndfile's word for an unknown length is 2**63 - 1
        raise RecordingError(f"truncated or corrupt: {decoded} of {file.frames} frames could be decoded")


def _mix(block: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Sum of the channels, [n, channels] -> float32 [n]. NumPy's own sum along this axis takes 20 times as long."""
    out[:] = block[:, 0]
    for channel in range(1, block.shape[1]):
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
