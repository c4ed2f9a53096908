"""A chunk as bytes: a WAV of fixed length inside a tar record of fixed length.

Every record of a shard has the same size, so record i starts at ``i * stride``: the index is arithmetic. The
size is a whole number of memory pages, so that records can be mapped, and read around the page cache.

A record is the tar header (512 bytes), the WAV header (44), the samples, and behind them a RIFF chunk ``xxh3``
of 8 bytes: the hash of all that comes before it, so that every record can be checked alone. Where the tar's own
padding (less than 512 bytes) does not reach the end of the page, a RIFF chunk ``JUNK`` does. Programs that read
WAV files pass over both.

Every record names the shard that it belongs to, as the group of its member in the tar header, which programs that
read tars pass over. In shards of version 0.1 all records have the group ``shards``.
"""

import re
import struct
import tarfile
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xxhash

TAR_HEADER = 512
WAV_HEADER = 44
HEADERS = TAR_HEADER + WAV_HEADER  # bytes before the samples
RIFF_HEADER = 8
CHECKSUM_BYTES = 8
PAGE = 4096
END_OF_TAR = bytes(2 * TAR_HEADER)
NAME_LENGTH = 25  # "00000012_000000011025.wav"
IDENTITY_DIGITS = 24  # of the hexadecimal identity of a shard: 96 bits
MAX_SOURCE, MAX_START = 10**8, 10**12  # what the digits of a name can hold

_NAME = re.compile(r"(\d{8})_(\d{12})\.wav")
_GROUP = slice(297, 297 + IDENTITY_DIGITS)  # of the 32 bytes of this field
_CHECKSUM = slice(148, 154)  # six octal digits; the NUL and the space behind them are in the template


def member_name(source: int, start: int) -> str:
    """Name of the chunk of recording ``source`` (row of the manifest) that begins at sample ``start``.

    It has no dot before the extension: WebDataset cuts its keys at the first one.
    """
    return f"{source:08d}_{start:012d}.wav"


def parse_name(name: str) -> tuple[int, int]:
    """``(source, start)`` of a member name. Raises ValueError when it is none."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a chunk name such as {member_name(0, 0)}")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class ChunkFormat:
    """16-bit PCM WAV chunks of ``samples`` samples of each of ``channels`` channels at ``rate`` Hz.

    Channels are interleaved. The default makes a record of 45,056 bytes, exactly 11 memory pages.
    """

    rate: int = 22050
    samples: int = 22050
    channels: int = 1

    @property
    def frame(self) -> int:
        """Bytes of one sample of all channels."""
        return 2 * self.channels

    @property
    def hashed(self) -> int:
        """Bytes of a record that its checksum covers: both headers and the samples."""
        return HEADERS + self.frame * self.samples

    @property
    def stride(self) -> int:
        """Size of one tar record, a whole number of pages."""
        return -(-(self.hashed + RIFF_HEADER + CHECKSUM_BYTES) // PAGE) * PAGE

    @property
    def wav_bytes(self) -> int:
        """Size of one WAV file."""
        return self.stride - TAR_HEADER if self._junk else self.hashed - TAR_HEADER + RIFF_HEADER + CHECKSUM_BYTES

    @property
    def _junk(self) -> int:
        """Size of the RIFF chunk that fills the last page, its header included; 0 when tar's padding does."""
        left = self.stride - self.hashed - RIFF_HEADER - CHECKSUM_BYTES
        return left if left >= TAR_HEADER else 0

    def shard_bytes(self, chunks: int) -> int:
        """Size of a shard of ``chunks`` chunks, with the two empty blocks that end a tar."""
        return chunks * self.stride + len(END_OF_TAR)

    @cached_property
    def wav_header(self) -> bytes:
        """The 44 bytes before the samples, the same in every chunk."""
        data = self.frame * self.samples
        riff = struct.pack("<4sI4s", b"RIFF", self.wav_bytes - RIFF_HEADER, b"WAVE")
        speed = self.frame * self.rate  # bytes a second
        fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, self.channels, self.rate, speed, self.frame, 16)
        return riff + fmt + struct.pack("<4sI", b"data", data)

    @cached_property
    def trailer(self) -> np.ndarray:
        """What comes behind the samples, uint8 [stride - hashed], with a checksum of zero."""
        junk = struct.pack("<4sI", b"JUNK", self._junk - RIFF_HEADER) if self._junk else b""
        content = struct.pack("<4sIQ", b"xxh3", CHECKSUM_BYTES, 0) + junk
        return np.frombuffer(content.ljust(self.stride - self.hashed, b"\0"), np.uint8)

    @cached_property
    def _template(self) -> np.ndarray:
        """Tar header and WAV header of the chunk whose name is all zeros, as uint8 [556]."""
        info = tarfile.TarInfo(member_name(0, 0))
        info.size, info.mtime, info.mode = self.wav_bytes, 0, 0o644
        info.uid = info.gid = 0
        info.uname = info.gname = "shards"
        return np.frombuffer(info.tobuf(tarfile.USTAR_FORMAT) + self.wav_header, np.uint8)

    def headers(self, source: np.ndarray, start: np.ndarray, identity: str = "") -> np.ndarray:
        """What comes before the samples of many records: source int [n], start int [n] -> uint8 [n, 556].

        ``identity`` is that of their shard, empty for one of version 0.1.
        """
        rows = np.tile(self._template, (len(source), 1))
        if identity:
            rows[:, _GROUP] = identity_bytes(identity)
        _write_digits(rows[:, 0:8], source)
        _write_digits(rows[:, 9:21], start)
        # A tar checksum is the sum of the header's bytes with blanks in the checksum field itself.
        total = rows[:, :TAR_HEADER].sum(axis=1, dtype=np.int64)
        total += 8 * ord(" ") - rows[:, 148:156].sum(axis=1, dtype=np.int64)
        _write_digits(rows[:, _CHECKSUM], total, base=8)
        return rows

    def records(self, audio: np.ndarray, source: np.ndarray, start: np.ndarray, identity: str = "") -> np.ndarray:
        """Tar records of many chunks at once.

        audio int16 [n, samples * channels], source int [n], start int [n] -> uint8 [n, stride]; ``identity`` as in
        ``headers``.
        """
        rows = np.empty((len(audio), self.stride), np.uint8)
        rows[:, :HEADERS] = self.headers(source, start, identity)
        rows[:, HEADERS : self.hashed] = np.ascontiguousarray(audio, dtype="<i2").view(np.uint8)
        rows[:, self.hashed :] = self.trailer
        self.stored_checksums(rows)[:] = self.checksums(rows)
        return rows

    def checksums(self, records: np.ndarray) -> np.ndarray:
        """What the checksums of records, uint8 [n, stride], should be: xxh3-64, uint64 [n]."""
        digest = xxhash.xxh3_64_intdigest
        return np.array([digest(record) for record in records[:, : self.hashed]], np.uint64)

    def stored_checksums(self, records: np.ndarray) -> np.ndarray:
        """The checksums that records, uint8 [n, stride], carry: a view, uint64 [n]."""
        begin = self.hashed + RIFF_HEADER
        field = records[:, begin : begin + CHECKSUM_BYTES]
        return np.lib.stride_tricks.as_strided(field.view("<u8"), (len(records),), (records.strides[0],))

    def damaged(self, records: np.ndarray) -> np.ndarray:
        """Which of the records, uint8 [n, stride], are not as they were written: bool [n]."""
        header = np.frombuffer(self.wav_header, np.uint8)
        wrong = (records[:, TAR_HEADER:HEADERS] != header).any(axis=1)
        return wrong | (self.checksums(records) != self.stored_checksums(records))


def identity_bytes(identity: str) -> np.ndarray:
    """The bytes by which the records of a shard name it, uint8 [IDENTITY_DIGITS]: zeros for an empty identity."""
    return np.frombuffer(identity.encode("ascii").ljust(IDENTITY_DIGITS, b"\0"), np.uint8)


def stored_identities(records: np.ndarray) -> np.ndarray:
    """What records, uint8 [n, 512 or more], name as their shard: a view, uint8 [n, IDENTITY_DIGITS]."""
    return records[:, _GROUP]


def _write_digits(field: np.ndarray, values: np.ndarray, base: int = 10) -> None:
    """Write non-negative integers [n] as ASCII digits into a uint8 field [n, width]."""
    powers = base ** np.arange(field.shape[1] - 1, -1, -1, dtype=np.int64)
    field[:] = np.asarray(values, np.int64)[:, None] // powers % base + ord("0")


def read_names(names: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source ids, starts (int64 [n]) and validity (bool [n]) of names given as uint8 [n, 25]."""
    digits = names[:, [*range(8), *range(9, 21)]].astype(np.int64) - ord("0")
    rest = np.frombuffer(b"_.wav", np.uint8)
    good = ((digits >= 0) & (digits <= 9)).all(axis=1) & (names[:, [8, *range(21, 25)]] == rest).all(axis=1)
    tens = 10 ** np.arange(11, -1, -1, dtype=np.int64)
    return digits[:, :8] @ tens[4:], digits[:, 8:] @ tens, good
