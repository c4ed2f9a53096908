"""One recording: decoded, mixed to mono or stereo, resampled, levelled, as 16-bit samples."""

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from shards.audio.decoding import Facts, decode
from shards.audio.errors import DecodingError
from shards.audio.levels import SILENCE, block_peaks, gain, robust_peak
from shards.audio.mixing import MEAN

BLOCK = 1 << 16  # samples handled at a time: they stay in the processor's cache
BEYOND = 2.0  # peaks above it, 6 dB over full scale, are samples in another scale
CLICK = 10.0  # a peak so many times above the robust one, 20 dB, is a click
RAISED = 100.0  # gains above it, 40 dB, raise noise
CONSTANT = 0.1  # the largest share of a constant in the peak
IN_MEMORY = 1 << 24  # values of a recording kept in memory, 64 MB; the rest waits in a file


class _Signal:
    """The samples of one recording, float32; whenever the buffer is full they move to a file without a name.

    Samples are counted for each channel. Those of several channels are interleaved.
    """

    def __init__(self, buffer: np.ndarray, folder: Path, channels: int):
        self._buffer, self._folder, self.channels = buffer, folder, channels
        self._wide = np.empty(BLOCK * channels, np.float64)
        self._file: BinaryIO | None = None
        self.restart()

    def restart(self) -> None:
        """Forget all samples."""
        self.samples = 0
        self.peaks: list[np.ndarray] = []
        self.squares = 0.0
        self.sums = [0.0] * self.channels
        self._filled = 0
        self.close()
        self._file = None

    def add(self, audio: np.ndarray) -> None:
        """Append float32 [n], of several channels [n, channels]. Raises DecodingError for one that is not finite."""
        for begin in range(0, len(audio), BLOCK):  # raising the rate makes long blocks
            self._add(audio[begin : begin + BLOCK])

    def _add(self, block: np.ndarray) -> None:
        peaks = block_peaks(block)
        if not math.isfinite(peaks.max()):
            raise DecodingError("not finite: it has NaN or infinite samples")
        self.peaks.append(peaks)
        self.samples += len(block)
        columns = block.reshape(-1, self.channels).T
        self.sums = [total + float(column.sum()) for total, column in zip(self.sums, columns, strict=True)]
        flat = block.reshape(-1)
        wide = self._wide[: len(flat)]
        wide[:] = flat
        self.squares += float(np.square(wide, out=wide).sum())
        if self._filled + len(flat) > len(self._buffer):
            self._file = self._file or tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - see close
            self._file.write(self._buffer[: self._filled].data)
            self._filled = 0
        self._buffer[self._filled : self._filled + len(flat)] = flat
        self._filled += len(flat)

    def __iter__(self) -> Iterator[np.ndarray]:
        """All of them, interleaved, in blocks of at most BLOCK values."""
        if self._file:
            self._file.seek(0)
            while len(block := np.frombuffer(self._file.read(4 * BLOCK), np.float32)):
                yield block
        for begin in range(0, self._filled, BLOCK):
            yield self._buffer[begin : min(begin + BLOCK, self._filled)]

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


@dataclass(frozen=True)
class Recording:
    """A decoded recording and its facts."""

    signal: _Signal
    samples: int  # of each channel
    duration_s: float
    rate: int  # Hz, as recorded
    channels: int  # as recorded
    gain: float
    peak: float  # over the channels that are used, before the gain, full scale 1
    rms: float
    note: str

    @property
    def silent(self) -> bool:
        """Whether it never rises above -80 dBFS."""
        return self.peak < SILENCE

    def audio(self) -> Iterator[np.ndarray]:
        """Its samples after the gain, interleaved, as blocks of int16 [n] that are valid until the next one."""
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
    """Reads files as mono or stereo at ``rate`` Hz, one at a time.

    ``level`` is one of ``levels.LEVELS``, the gain is one for all channels; ``channels``, ``outputs`` and
    ``keep_one_sided`` as ``decode`` takes them. Of a recording that is longer than ``IN_MEMORY`` values the rest waits
    in a file in ``scratch``.
    """

    def __init__(
        self,
        rate: int,
        level: str,
        scratch: Path,
        channels: str = MEAN,
        outputs: int = 1,
        keep_one_sided: bool = False,
    ):
        self._rate, self._level, self._scratch, self._channels = rate, level, scratch, channels
        self._outputs, self._keep_one_sided = outputs, keep_one_sided
        self._buffer = np.empty(max(IN_MEMORY, BLOCK * outputs), np.float32)

    @contextmanager
    def read(
        self, path: str | Path, on_progress: Callable[[float], None] = lambda seconds: None
    ) -> Iterator[Recording]:
        """A recording that is valid until the context ends; ``on_progress`` gets the seconds of each block.

        Raises DecodingError with the reason when the file is unreadable, truncated, empty or not finite,
        OSError when the scratch folder cannot be written.
        """
        signal = _Signal(self._buffer, self._scratch, self._outputs)
        try:
            facts = decode(path, self._rate, signal, on_progress, self._channels, self._outputs, self._keep_one_sided)
            if not signal.samples:
                raise DecodingError("empty: it has no samples")
            yield self._levelled(signal, facts)
        finally:
            signal.close()

    def _levelled(self, signal: _Signal, facts: Facts) -> Recording:
        peaks = np.concatenate(signal.peaks)
        peak, robust = float(peaks.max()), robust_peak(peaks)
        rms = math.sqrt(signal.squares / (signal.samples * signal.channels))
        factor = 1.0 if peak < SILENCE else gain(self._level, peak, rms, robust)
        notes = [facts.note] if facts.note else []
        constant = max(map(abs, signal.sums)) / signal.samples
        if peak < SILENCE:
            notes.append("silent: never above -80 dBFS")
        elif peak > BEYOND:
            notes.append(f"too loud: its peak is {peak:,.6g} times full scale")
        elif peak * factor > 1:
            notes.append(f"clipped: its peak is {peak * factor:.2f} of full scale at its level")
        if peak > CLICK * max(robust, SILENCE):
            above = 20 * math.log10(peak / max(robust, SILENCE))
            notes.append(f"click: a moment of it is {above:.0f} dB above all others, which --level robust leaves out")
        if factor > RAISED:
            notes.append(f"too quiet: raised by {20 * math.log10(factor):.0f} dB")
        if peak >= SILENCE and constant > CONSTANT * peak:
            notes.append(f"constant: a constant is {100 * constant / peak:.0f} % of its peak (DC)")
        seconds = signal.samples / self._rate
        note = "; ".join(notes)
        return Recording(signal, signal.samples, seconds, facts.rate, facts.channels, factor, peak, rms, note)
