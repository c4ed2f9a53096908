"""The second decoder: FFmpeg's libraries through PyAV, for what libsndfile cannot read or reads short.

It is imported where it is needed only: most data sets never need it.
"""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shards.audio.errors import DecodingError

# Containers that hold recordings. Others are playlists, which would open further files, or no audio at all.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,eac3,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,nut,ogg,rm,tak,tta,"
    "voc,w64,wav,wv"
)
BLOCK = 1 << 16  # frames handed on together, as FFmpeg decodes about a thousand at a time
LONGEST_S = 1e6  # a header that announces more than eleven days does not know the length
_KINDS = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32, "dbl": np.float64}
# Packets in a row that cannot be decoded; behind them the file is taken for noise.
MOST_DAMAGED = 1000


class FFmpegFile:
    """An open file.

    Attributes:
        rate: Hz, as recorded; of the first part where parts differ.
        channels: As recorded.
        seconds: The length that the header of the audio stream announces; None when it announces none.
        damaged: Packets that could not be decoded so far.
        lost_s: Their length in seconds.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self.rate: int = stream.codec_context.sample_rate
        self.channels: int = stream.codec_context.channels
        known = stream.duration is not None and container.format.name not in ("mp3", "aac")
        seconds = float(stream.duration * stream.time_base) if known else LONGEST_S
        self.seconds: float | None = seconds if 0 < seconds < LONGEST_S else None
        self.damaged, self.lost_s = 0, 0.0

    def blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        """The samples as float32 [n, channels] with their rate in Hz; raises DecodingError."""
        waiting: list[np.ndarray] = []
        shape, count = (0, 0), 0  # rate and channels of what waits
        for samples, rate in self._frames():
            if shape != (rate, samples.shape[1]) or count >= BLOCK:
                if waiting:
                    yield np.concatenate(waiting), shape[0]
                waiting, shape, count = [], (rate, samples.shape[1]), 0
            waiting.append(samples)
            count += len(samples)
        if waiting:
            yield np.concatenate(waiting), shape[0]

    def _frames(self) -> Iterator[tuple[np.ndarray, int]]:
        import av

        row = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError):  # the container is damaged here; what was read is kept
                self.damaged, self.lost_s = self.damaged + 1, float("inf")
                return
            if packet is None:
                return
            try:
                for frame in packet.decode():
                    yield _as_float(frame), frame.sample_rate
                row = 0
            except (av.FFmpegError, ValueError):
                self.damaged += 1
                self.lost_s += float((packet.duration or 0) * self._stream.time_base)
                row += 1
                if row > MOST_DAMAGED:
                    raise DecodingError("unreadable: most of it cannot be decoded") from None


@contextmanager
def open_ffmpeg(
    path: str | Path, ignore_length: bool = False, span: tuple[int, int] | None = None
) -> Iterator[FFmpegFile]:
    """Opens the best audio stream of a file; raises DecodingError when there is none.

    Args:
        path: The file.
        ignore_length: Read a WAV file to its end, whatever length its header names.
        span: The first byte and the one behind the last, where the file is a part of another.
    """
    import av

    av.logging.set_level(None)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": ""}
    options |= {"ignore_length": "1"} if ignore_length else {}
    with ExitStack() as opened:
        try:
            # A file object, as a name could be taken for a URL and need not be text.
            whole = opened.enter_context(open(os.fsencode(path), "rb"))
            file = _Span(whole, *(span or (0, whole.seek(0, io.SEEK_END))))
            container = opened.enter_context(av.open(file, options=options, metadata_errors="ignore"))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DecodingError(f"unreadable: {_words(error)}") from None
        stream: Any = container.streams.best("audio")
        if stream is None:
            raise DecodingError("unreadable: it has no sound")
        if stream.codec_context is None or not stream.codec_context.sample_rate:
            raise DecodingError("unreadable: no decoder for its sound")
        yield FFmpegFile(container, stream)


class _Span(io.RawIOBase):
    """A file, or a part of one, as FFmpeg reads it."""

    def __init__(self, file: BinaryIO, begin: int, end: int) -> None:
        self._file, self._begin, self._end, self._place = file, begin, end, begin

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: self._begin, io.SEEK_CUR: self._place, io.SEEK_END: self._end}[whence]
        if start + offset < self._begin:  # a damaged index asks for it; PyAV would print the traceback of an exception
            return -errno.EINVAL
        self._place = start + offset
        return self._place - self._begin

    def tell(self) -> int:
        return self._place - self._begin

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._place)
        self._file.seek(self._place)
        content = self._file.read(left if size < 0 else min(size, left))
        self._place += len(content)
        return content


def _words(error: Exception) -> str:
    text = str(getattr(error, "strerror", "") or error)
    return "not a known audio format" if "Invalid data" in text else " ".join(text.split())


def _as_float(frame: Any) -> np.ndarray:
    """The samples of a frame, float32 [n, channels]."""
    channels, kind = frame.layout.nb_channels, _KINDS[frame.format.packed.name]
    # Not by `to_ndarray`: from 8 channels on, PyAV takes what lies behind the pointers to planes for further planes,
    # and reading those can end the process.
    if frame.format.is_planar:
        rows = [np.frombuffer(plane, kind, frame.samples) for plane in frame.planes[:channels]]
        wide = np.stack(rows, axis=1)
    else:
        wide = np.frombuffer(frame.planes[0], kind, frame.samples * channels).reshape(-1, channels)
    if wide.dtype.kind == "f":
        return wide.astype(np.float32)
    if wide.dtype == np.uint8:
        return (wide.astype(np.float32) - 128) / 128
    return wide.astype(np.float32) * np.float32(1 / -float(np.iinfo(wide.dtype).min))
