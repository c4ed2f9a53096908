"""``dataset.json``, the only contract between the builder and the readers."""

import json
import math
import re
import reprlib
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from shards.audio.rates import HIGHEST
from shards.chunk import ChunkFormat
from shards.ends import complaint, hash_of, read_ends
from shards.errors import DataError
from shards.files import MIB, JSONError, parse_json, read_file, write_atomically

FILE_NAME = "dataset.json"
FORMAT_VERSION = 2
LIMIT = 256 * MIB  # bytes of the file: about 500,000 recordings
MAX_SAMPLES = 1 << 26
CHECKERS = 16  # shards looked at at once


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
    channels: int
    gain_db: float
    peak: float  # of the mono recording before the gain, full scale 1
    rms: float
    silent: bool
    note: str  # why it was skipped, or what is remarkable about it
    # Data sets of versions before have none of what follows.
    size: int = 0  # bytes of the file
    modified_ns: int = 0  # when the file was changed last
    content: str = ""  # xxh3-128 of the file
    audio: str = ""  # xxh3-128 of the samples, int16 at the rate of the chunks, after the gain
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

    @classmethod
    def of(cls, path: Path, chunks: int, shape: ChunkFormat, xxh3: str) -> "Shard":
        """The row of a shard that was written to ``path``. Raises OSError when it cannot be read."""
        ends = hash_of(read_ends(path, chunks, shape)) if chunks else ""
        return cls(path.name, chunks, shape.shard_bytes(chunks), xxh3, ends)


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


@dataclass(frozen=True)
class Manifest:
    """What a data folder holds."""

    rate: int  # Hz
    samples: int  # of a chunk
    hop: int  # samples
    level: str  # how recordings were normalised
    settings: dict[str, Any]  # the other settings of the build
    splits: dict[str, list[Shard]]
    levels: dict[str, Level]
    sources: list[Source]
    prints: list[Listed] = field(default_factory=list)  # acoustic fingerprints of the recordings

    @property
    def chunk_format(self) -> ChunkFormat:
        """Sizes of chunks and records."""
        return ChunkFormat(self.rate, self.samples)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides which audio is chunk i of which split."""
        return _hash([[name, self.split_fingerprint(name)] for name in sorted(self.splits)])

    def split_fingerprint(self, name: str) -> str:
        """The same for one split."""
        rows = [[shard.file, shard.chunks, shard.xxh3] for shard in self.splits[name]]
        return _hash([self.rate, self.samples, rows])

    def recordings_at(self, row: int, start: int) -> list[str]:
        """Paths of the recordings in the chunk that begins at sample ``start`` of source ``row``."""
        source = self.sources[row]
        if source.members is None:
            return [source.path]
        end = start + self.samples
        return [self.sources[one].path for one, begin, count in source.members if begin < end and begin + count > start]

    def chunks(self, name: str) -> int:
        """Number of chunks of a split."""
        return sum(shard.chunks for shard in self.splits[name])

    def check_sizes(self, folder: Path, name: str) -> None:
        """Raise DataError naming the first shard of a split that is missing, of another size or of another build."""
        shape = self.chunk_format
        with ThreadPoolExecutor(CHECKERS, "shard-check") as pool:  # a network file system takes a while for each
            for _ in pool.map(lambda shard: _check_shard(Path(folder) / shard.file, shard, shape), self.splits[name]):
                pass

    def save(self, folder: Path) -> None:
        """Write ``dataset.json`` into the folder, whole or not at all. Raises DataError where it would be too large."""
        content = {"format_version": FORMAT_VERSION, **asdict(self), "fingerprint": self.fingerprint}
        text = json.dumps(content, indent=1) + "\n"
        if len(text) > LIMIT:
            raise DataError(
                f"{folder / FILE_NAME} would have {len(text):,} bytes, more than {LIMIT:,}: build two folders"
            )
        write_atomically(folder / FILE_NAME, text)

    @classmethod
    def load(cls, folder: str | Path) -> "Manifest":
        """Read and check the manifest of a data folder. Raises DataError naming what is wrong."""
        path = Path(folder) / FILE_NAME
        try:
            content = read_file(path, follow_links=True, limit=LIMIT)
        except FileNotFoundError:
            raise DataError(
                f"{folder} has no {FILE_NAME}: it is no data folder, or its build has not finished. "
                f"Run: python -m shards build AUDIO_DIR {folder}"
            ) from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        return cls.parse(content, path)

    @classmethod
    def parse(cls, content: bytes, path: str | Path) -> "Manifest":
        """Check the content of a manifest. Raises DataError naming ``path`` and what is wrong."""
        if sum(map(content.count, (b",", b"[", b"{"))) > 100_000 + len(content) // 8:
            # In memory that would take twenty times the file's size.
            raise _broken(path, "it has too many values for its size")
        try:
            return _parse(parse_json(content))
        except (JSONError, _InvalidError) as error:
            raise _broken(path, str(error)) from None


def _check_shard(path: Path, shard: Shard, shape: ChunkFormat) -> None:
    """Raise DataError when a shard is missing, of another size or of another build."""
    remedy = "copy it again, or build the data again"
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"shard {path} is not a regular file: {remedy}")
        if about.st_size != shard.bytes:
            raise DataError(f"shard {path} has {about.st_size} bytes, the manifest says {shard.bytes}: {remedy}")
        if shard.ends and shard.chunks:
            wrong = complaint(read_ends(path, shard.chunks, shape), shard.ends, shard.chunks, shape)
            if wrong:
                raise DataError(f"shard {path} {wrong}. {remedy.capitalize()}")
    except OSError as error:
        raise DataError(f"shard {path} cannot be read ({error.strerror}): {remedy}") from None


class _InvalidError(Exception):
    """What is wrong with a manifest."""


def _broken(path: str | Path, what: str) -> DataError:
    return DataError(f"{path}: {what}. Build the data again into another folder, or restore this file")


def _hash(content: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(content).encode())


def _parse(content: Any) -> Manifest:
    top = _Fields(content, "the file")
    version = top.integer("format_version")
    if version != FORMAT_VERSION:
        raise _InvalidError(f"format_version is {_short(version)}, this version reads {FORMAT_VERSION}")
    splits = {
        name: [_shard(row, f"shard {i} of {name}") for i, row in enumerate(_list(rows, f"splits.{name}"))]
        for name, rows in top.mapping("splits").items()
    }
    levels = {name: _level(row, f"levels.{name}") for name, row in top.mapping("levels").items()}
    sources = [_source(row, f"source {i}") for i, row in enumerate(_list(top.get("sources"), "sources"))]
    manifest = Manifest(
        rate=top.integer("rate", least=1, most=HIGHEST),
        samples=top.integer("samples", least=1, most=MAX_SAMPLES),
        hop=top.integer("hop", least=1),
        level=top.text("level"),
        settings=top.mapping("settings"),
        splits=splits,
        levels=levels,
        sources=sources,
        prints=[_listed(row, f"prints {i}") for i, row in enumerate(_list(top.optional("prints", []), "prints"))],
    )
    files = [shard.file for shards in splits.values() for shard in shards]
    if len(set(files)) < len(files):
        raise _InvalidError("a shard is listed twice")
    for shard in (shard for shards in splits.values() for shard in shards):
        if shard.bytes != manifest.chunk_format.shard_bytes(shard.chunks):
            raise _InvalidError(f"shard {shard.file} cannot hold {shard.chunks} chunks in {shard.bytes} bytes")
    if levels.keys() != splits.keys():
        raise _InvalidError("splits and levels name different splits")
    for source in sources:
        if any(one >= len(sources) for one, _, _ in source.members or ()):
            raise _InvalidError(f"a member of source {source.path} is not listed")
        if source.split is not None and source.split not in splits:
            raise _InvalidError(f"source {source.path} is in a split {_short(source.split)} that is not listed")
    if top.text("fingerprint") != manifest.fingerprint:
        raise _InvalidError("its fingerprint does not fit its shards, so it was changed after the build")
    return manifest


class _Fields:
    """Typed access to a JSON object; every complaint says where it is."""

    def __init__(self, content: Any, where: str):
        if not isinstance(content, dict):
            raise _InvalidError(f"{where} is not an object")
        self.content, self.where = content, where

    def get(self, key: str) -> Any:
        if key not in self.content:
            raise _InvalidError(f"{self.where} has no {key}")
        return self.content[key]

    def optional(self, key: str, default: Any) -> Any:
        return self.content.get(key, default)

    def integer(self, key: str, least: int = 0, most: int = 1 << 53) -> int:
        value = self.get(key)
        if type(value) is not int or value < least:
            raise _InvalidError(f"{key} of {self.where} must be an integer of at least {least}, not {_short(value)}")
        if value > most:
            raise _InvalidError(f"{key} of {self.where} must be an integer of at most {most}, not {_short(value)}")
        return value

    def number(self, key: str, least: float = -1e15) -> float:
        value = self.get(key)
        if type(value) not in (int, float) or not least <= value <= 1e15:  # nor NaN
            what = "a finite number" if least else "a finite number of at least 0"
            raise _InvalidError(f"{key} of {self.where} must be {what}, not {_short(value)}")
        return float(value)

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str):
            raise _InvalidError(f"{key} of {self.where} must be text, not {_short(value)}")
        return value

    def boolean(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise _InvalidError(f"{key} of {self.where} must be true or false, not {_short(value)}")
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.get(key)
        if not isinstance(value, dict):
            raise _InvalidError(f"{key} of {self.where} must be an object")
        return value


def _short(value: Any) -> str:
    """A value in a message: whatever it is, a few words on one line."""
    return reprlib.repr(value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _InvalidError(f"{where} must be a list")
    return value


def _file_name(fields: _Fields) -> str:
    file = fields.text("file")
    if not file or file.startswith(".") or any(c in file for c in "/\\\0"):
        raise _InvalidError(f"file of {fields.where} must be a plain file name, not {_short(file)}")
    return file


def _listed(row: Any, where: str) -> Listed:
    fields = _Fields(row, where)
    return Listed(_file_name(fields), fields.integer("bytes"), fields.text("xxh3"))


def _shard(row: Any, where: str) -> Shard:
    fields = _Fields(row, where)
    ends = fields.text("ends") if "ends" in fields.content else ""
    if not re.fullmatch("([0-9a-f]{32})?", ends):
        raise _InvalidError(f"ends of {where} must be 32 hexadecimal digits, not {_short(ends)}")
    return Shard(_file_name(fields), fields.integer("chunks"), fields.integer("bytes"), fields.text("xxh3"), ends)


def _level(row: Any, where: str) -> Level:
    fields = _Fields(row, where)
    return Level(
        chunks=fields.integer("chunks"),
        hours=fields.number("hours", least=0),
        rms=fields.number("rms", least=0),
        peak=fields.number("peak", least=0),
        silent_chunks=fields.integer("silent_chunks"),
        left_out=fields.integer("left_out"),
    )


def _source(row: Any, where: str) -> Source:
    # Absent where a version before wrote the row.
    later = {"size": 0, "modified_ns": 0, "content": "", "audio": "", "group": "", "copy_of": "", "span": None}
    later |= {"members": None}
    fields = _Fields(later | row if isinstance(row, dict) else row, where)
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


def _members(fields: _Fields) -> list[list[int]] | None:
    value = fields.get("members")
    if value is None:
        return None
    for row in _list(value, f"members of {fields.where}"):
        if not (isinstance(row, list) and len(row) == 3 and all(type(one) is int and one >= 0 for one in row)):
            raise _InvalidError(f"members of {fields.where} must be lists of three integers, not {_short(row)}")
    return value


def _span(fields: _Fields) -> list[int] | None:
    value = fields.get("span")
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2 and all(type(one) is int for one in value)):
        raise _InvalidError(f"span of {fields.where} must be two integers, not {_short(value)}")
    if not 0 <= value[0] < value[1]:
        raise _InvalidError(f"span of {fields.where} must be two integers that ascend, not {_short(value)}")
    return value
