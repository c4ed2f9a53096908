"""The first decoder: libsndfile. Fast, and exact about WAV, AIFF and FLAC; it stops early in some files of others."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from shards.audio.errors import DecodingError, reason

BLOCK = 1 << 16  # frames decoded at a time: they stay in the processor's cache until they are resampled
# From this size of a header on, nobody knew the length: encoders that write to a pipe promise so much or more.
UNKNOWN_LENGTH = 0x7FFF0000
MOST_FRAMES = 2**36 - 1  # the most that FLAC can name; nobody has recorded so long
_WITHOUT_HEADER = (b".gsm", b".vox")
_NO_PROMISE = (0x7FFFFFFF, 0xFFFFFFFF)

# What libsndfile notes when a file ends before the length that its header promises.
_SHORTER = re.compile(r"^ *(?:data|riff|SSND|Data Size) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_COUNT_DIFFERS = re.compile(r"Calculated frame count (\d+) does not match value from .* of (\d+)")


@dataclass(frozen=True)
class Promise:
    """What a header says about the length.

    Attributes:
        share: The share of the promised length that is there, in [0, 1]; 1 when the file is whole.
        note: What is remarkable about a promise that means nothing.
    """

    share: float = 1.0
    note: str = ""


class SndFile:
    """An open file.

    Attributes:
        rate: Hz, as recorded.
        channels: As recorded.
        format: libsndfile's name of the container.
        frames: As the header says, or as libsndfile estimates; None when it does not know.
        promise: What the header says beyond what is there.
    """

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self.rate: int = file.samplerate
        self.channels: int = file.channels
        self.format: str = file.format
        self.frames: int | None = file.frames if file.frames < MOST_FRAMES else None
        self.promise = _promise(file.extra_info)
        # Samples of 16 bits are exact in float32 and in a sum of them: read as they are, a WAV takes half the time.
        self._short = file.subtype == "PCM_16"
        self.full_scale = 32768 if self._short else 1

    def blocks(self) -> Iterator[np.ndarray]:
        """The samples as float32 [n, channels], each valid until the next one; raises DecodingError."""
        frames = BLOCK if self.channels <= 2 else max(1, 2 * BLOCK // self.channels)
        wide = np.empty((frames, self.channels), np.float32)
        buffer = np.empty(wide.shape, np.int16) if self._short else wide
        while True:
            try:
                block = self._file.read(out=buffer)
            except Exception as error:
                raise DecodingError(reason(error)) from None
            if buffer is not wide:
                wide[: len(block)] = block  # at once: casting column by column takes twice as long
            yield wide[: len(block)]
            if len(block) < frames:
                return


@contextmanager
def open_sndfile(path: str | Path) -> Iterator[SndFile]:
    """Opens a file with libsndfile; raises DecodingError when that cannot read it."""
    name = os.fsencode(path)  # bytes: a name need not be text
    try:
        # By a handle libsndfile goes by the content; by a name it would take noise called .mp3 for MPEG audio.
        file = soundfile.SoundFile(name if name.endswith(_WITHOUT_HEADER) else os.open(name, os.O_RDONLY))
    except Exception as error:  # soundfile raises many kinds, from TypeError to its own
        raise DecodingError(reason(error)) from None
    with file:
        yield SndFile(file)


def _promise(log: str) -> Promise:
    """What libsndfile's log says about a file that is shorter than its header promises."""
    share, note = 1.0, ""
    for found in _SHORTER.finditer(log):
        promised, present = int(found[1]), int(found[2])
        if present + 1 >= promised:  # one byte may be padding
            continue
        if promised < UNKNOWN_LENGTH:
            share = min(share, present / promised)
        elif promised not in _NO_PROMISE:
            note = f"its header promises {promised:,} bytes, {present:,} are there"
    counts = _COUNT_DIFFERS.search(log)
    if counts and int(counts[1]) < int(counts[2]):
        share = min(share, int(counts[1]) / int(counts[2]))
    return Promise(share, note)
