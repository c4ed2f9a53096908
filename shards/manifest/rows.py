"""The rows of ``dataset.json``: what is known of a recording, of a shard, of a split."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.chunk import IDENTITY_DIGITS, ChunkFormat
from shards.manifest.ends import hash_of, read_ends
from shards.manifest.fields import Fields, InvalidError, as_list, short


@dataclass(frozen=True)
class Source:
    """One file of the audio folder; its row in the manifest is the source id in chunk names."""

    path: str  # relative to the audio folder, with forward slashes
    fingerprint: str  # of the file's content
    split: str | None  # None when skipped
    chunks: int
    silent_chunks: int  # of them: their peak is below -80 dBFS
    left_out: int  # more silent chunks, which the build left out
    duration_s: float
    rate: int  # Hz, as recorded
    channels: int  # as recorded
    gain_db: float
    peak: float  # over the channels that are used, before the gain, full scale 1
    rms: float
    silent: bool
    note: str  # why it was skipped, or what is remarkable about it
    # Data sets of versions before have none of what follows.
    size: int = 0  # bytes of the file
    modified_ns: int = 0  # when the file was changed last
    content: str = ""  # xxh3-128 of the file
    audio: str = ""  # xxh3-128 of the samples, int16 at the rate of the chunks, interleaved, after the gain
    group: str = ""  # name of the recordings that stay together, as --group-by gives it
    copy_of: str = ""  # path of the first recording with the same sound
    span: list[int] | None = None  # first sample and end of the part that this row stands for; None is the whole
    # Of a row that stands for short recordings that share chunks: row, first sample in this one, and samples of each.
    members: list[list[int]] | None = None


@dataclass(frozen=True)
class Listed:
    """A file of the data folder beside the shards."""

    file: str
    bytes: int
    xxh3: str  # xxh3-128 of the file, hexadecimal


@dataclass(frozen=True)
class Shard:
    """One tar file."""

    file: str
    chunks: int
    bytes: int
    xxh3: str  # xxh3-128 of the whole file, hexadecimal
    ends: str = ""  # xxh3-128 of the first record and the last, hexadecimal; empty in data of versions before
    identity: str = ""  # in each record: a hash of what decides the shard's bytes; empty in data of versions before

    @classmethod
    def of(cls, path: Path, chunks: int, shape: ChunkFormat, xxh3: str, identity: str) -> "Shard":
        """The row of a shard that was written to ``path``. Raises OSError when it cannot be read."""
        ends = hash_of(read_ends(path, chunks, shape)) if chunks else ""
        return cls(path.name, chunks, shape.shard_bytes(chunks), xxh3, ends, identity)


@dataclass(frozen=True)
class Level:
    """How much a split holds and how loud its recordings are after the gain, full scale 1."""

    chunks: int
    hours: float  # of recordings, overlap not counted twice
    rms: float
    peak: float
    silent_chunks: int  # peak below -80 dBFS
    left_out: int  # more silent chunks, which the build left out

    @classmethod
    def of(cls, sources: list[Source]) -> "Level":
        """The level of all recordings of a split."""
        seconds = math.fsum(source.duration_s for source in sources)
        gains = [10 ** (source.gain_db / 20) for source in sources]
        energy = [source.duration_s * (source.rms * gain) ** 2 for source, gain in zip(sources, gains, strict=True)]
        peaks = [source.peak * gain for source, gain in zip(sources, gains, strict=True)]
        return cls(
            chunks=sum(source.chunks for source in sources),
            hours=round(seconds / 3600, 6),
            rms=round(math.sqrt(math.fsum(energy) / seconds), 6),
            peak=round(min(max(peaks), 1.0), 6),
            silent_chunks=sum(source.silent_chunks for source in sources),
            left_out=sum(source.left_out for source in sources),
        )


def _file_name(fields: Fields) -> str:
    file = fields.text("file")
    if not file or file.startswith(".") or any(c in file for c in "/\\\0"):
        raise InvalidError(f"file of {fields.where} must be a plain file name, not {short(file)}")
    return file


def parse_listed(row: Any, where: str) -> Listed:
    """A row of the file. Raises InvalidError that says ``where``."""
    fields = Fields(row, where)
    return Listed(_file_name(fields), fields.integer("bytes"), fields.text("xxh3"))


def parse_shard(row: Any, where: str) -> Shard:
    """A row of the file. Raises InvalidError that says ``where``."""
    fields = Fields(row, where)
    ends = fields.text("ends") if "ends" in fields.content else ""
    if not re.fullmatch("([0-9a-f]{32})?", ends):
        raise InvalidError(f"ends of {where} must be 32 hexadecimal digits, not {short(ends)}")
    identity = fields.text("identity") if "identity" in fields.content else ""
    if not re.fullmatch(f"([0-9a-f]{{{IDENTITY_DIGITS}}})?", identity):
        raise InvalidError(f"identity of {where} must be {IDENTITY_DIGITS} hexadecimal digits, not {short(identity)}")
    size = fields.integer("bytes")
    return Shard(_file_name(fields), fields.integer("chunks"), size, fields.text("xxh3"), ends, identity)


def parse_level(row: Any, where: str) -> Level:
    """A row of the file. Raises InvalidError that says ``where``."""
    fields = Fields(row, where)
    return Level(
        chunks=fields.integer("chunks"),
        hours=fields.number("hours", least=0),
        rms=fields.number("rms", least=0),
        peak=fields.number("peak", least=0),
        silent_chunks=fields.integer("silent_chunks"),
        left_out=fields.integer("left_out"),
    )


def parse_source(row: Any, where: str) -> Source:
    """A row of the file. Raises InvalidError that says ``where``."""
    # Absent where a version before wrote the row.
    later = {"size": 0, "modified_ns": 0, "content": "", "audio": "", "group": "", "copy_of": "", "span": None}
    later |= {"members": None}
    fields = Fields(later | row if isinstance(row, dict) else row, where)
    return Source(
        path=fields.text("path"),
        fingerprint=fields.text("fingerprint"),
        split=None if fields.get("split") is None else fields.text("split"),
        chunks=fields.integer("chunks"),
        silent_chunks=fields.integer("silent_chunks"),
        left_out=fields.integer("left_out"),
        duration_s=fields.number("duration_s", least=0),
        rate=fields.integer("rate"),
        channels=fields.integer("channels"),
        gain_db=fields.number("gain_db"),
        peak=fields.number("peak", least=0),
        rms=fields.number("rms", least=0),
        silent=fields.boolean("silent"),
        note=fields.text("note"),
        size=fields.integer("size"),
        modified_ns=fields.integer("modified_ns", least=-(1 << 63), most=1 << 63),
        content=fields.text("content"),
        audio=fields.text("audio"),
        group=fields.text("group"),
        copy_of=fields.text("copy_of"),
        span=_span(fields),
        members=_members(fields),
    )


def _members(fields: Fields) -> list[list[int]] | None:
    value = fields.get("members")
    if value is None:
        return None
    for row in as_list(value, f"members of {fields.where}"):
        if not (isinstance(row, list) and len(row) == 3 and all(type(one) is int and one >= 0 for one in row)):
            raise InvalidError(f"members of {fields.where} must be lists of three integers, not {short(row)}")
    return value


def _span(fields: Fields) -> list[int] | None:
    value = fields.get("span")
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2 and all(type(one) is int for one in value)):
        raise InvalidError(f"span of {fields.where} must be two integers, not {short(value)}")
    if not 0 <= value[0] < value[1]:
        raise InvalidError(f"span of {fields.where} must be two integers that ascend, not {short(value)}")
    return value
