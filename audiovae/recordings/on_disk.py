"""A recording that is read from its file once and then part by part: a long one waits on disk, not in memory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.recordings.audio_file import decode_into
from audiovae.recordings.pieces import Source
from shards.audio import levels

# Samples that stay in memory: 64 MB.
IN_MEMORY = 1 << 24
# Samples that are looked at together for the level; whole blocks of `levels.block_peaks`.
AT_ONCE = 1 << 20
BYTES = 4  # of a sample


class DecodedRecording:
    """A decoded recording, float32 at the rate of a model, whose parts can be read in any order.

    Attributes:
        length: In samples a channel, at least 1.
        channels: 1 for mono, 2 for left and right.
        note: What is odd about the file, or nothing.
    """

    def __init__(self, source: str | Path, rate: int, folder: Path, channels: int = 1) -> None:
        """Decodes a file; `folder` takes what does not fit into memory.

        Raises:
            ModelError: as `audiovae.read_recording`.
        """
        self.length, self.channels = 0, channels
        self._folder = folder
        self._pieces: list[np.ndarray] = []
        self._file: BinaryIO | None = None
        self.note = decode_into(source, rate, self, channels)
        self._whole = np.concatenate([np.zeros(0, np.float32), *(piece.reshape(-1) for piece in self._pieces)])
        self._pieces.clear()
        if not self.length:
            raise ModelError(f"{source}: holds no audio")
        self._peaks, self._square = self._look(source)

    def add(self, audio: np.ndarray) -> None:
        """Takes a block of the decoder, [n] or [n, 2]."""
        if self._file is None and self.channels * (self.length + len(audio)) > IN_MEMORY:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115, `close` closes it
            for piece in self._pieces:
                self._file.write(piece.tobytes())
            self._pieces.clear()
        if self._file is None:
            self._pieces.append(audio.copy())
        else:
            self._file.write(audio.tobytes())
        self.length += len(audio)

    def restart(self) -> None:
        """Forgets all blocks: another decoder begins."""
        self._pieces.clear()
        self.close()
        self.length = 0

    def read(self, first: int, last: int) -> Tensor:
        """Samples from number `first` to before `last`, [n] or [2, n] float32; fewer at the end of the recording."""
        begin, end = first * self.channels, last * self.channels
        if self._file is None:
            values = torch.from_numpy(self._whole[begin:end])
        else:
            self._file.seek(begin * BYTES)
            values = torch.from_numpy(np.frombuffer(self._file.read((end - begin) * BYTES), np.float32).copy())
        return values if self.channels == 1 else values.view(-1, self.channels).T

    def gain(self, level: str) -> float:
        """The factor that brings the recording to the level of training, see `shards.audio.levels.gain`."""
        return levels.gain(level, float(self._peaks.max()), self._square**0.5, levels.robust_peak(self._peaks))

    def at(self, level: str) -> Source:
        """The recording as the models of that level take it."""
        return Source(self.read, self.length, self.gain(level))

    def close(self) -> None:
        """Removes what is on disk."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _look(self, source: str | Path) -> tuple[np.ndarray, float]:
        """The block peaks and the mean square; raises ModelError for values that are not finite."""
        peaks, total = [], 0.0
        for first in range(0, self.length, AT_ONCE):
            part = self.read(first, first + AT_ONCE).numpy()
            if not np.isfinite(part).all():
                raise ModelError(f"{source}: holds values that are not finite (NaN or infinity)")
            peaks.append(levels.block_peaks(part.T))
            total += float(np.square(part, dtype=np.float64).sum())
        return np.concatenate(peaks), total / (self.length * self.channels)


@contextmanager
def decoded_recording(source: str | Path, rate: int, folder: Path, channels: int = 1) -> Iterator[DecodedRecording]:
    """A `DecodedRecording`, closed at the end."""
    recording = DecodedRecording(source, rate, folder, channels)
    try:
        yield recording
    finally:
        recording.close()
