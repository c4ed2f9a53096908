"""What a data folder holds, as its ``dataset.json`` says."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from shards.audio.rates import HIGHEST
from shards.chunk import ChunkFormat
from shards.errors import DataError
from shards.files import MIB, JSONError, parse_json, read_file, write_atomically
from shards.manifest.ends import complaint, read_ends
from shards.manifest.fields import Fields, InvalidError, as_list, short
from shards.manifest.rows import Level, Listed, Shard, Source, parse_level, parse_listed, parse_shard, parse_source

FILE_NAME = "dataset.json"
FORMAT_VERSION = 2
STEREO_VERSION = 3  # of data sets with two channels, so that versions that know mono alone refuse them
LIMIT = 256 * MIB  # bytes of the file: about 500,000 recordings
MAX_SAMPLES = 1 << 26  # of a chunk, all channels together
CHECKERS = 16  # shards looked at at once


@dataclass(frozen=True)
class Manifest:
    """What a data folder holds."""

    rate: int  # Hz
    samples: int  # of a chunk, in each channel
    hop: int  # samples
    level: str  # how recordings were normalised
    settings: dict[str, Any]  # the other settings of the build
    splits: dict[str, list[Shard]]
    levels: dict[str, Level]
    sources: list[Source]
    prints: list[Listed] = field(default_factory=list)  # acoustic fingerprints of the recordings
    channels: int = 1  # 2 for stereo

    @property
    def chunk_format(self) -> ChunkFormat:
        """Sizes of chunks and records."""
        return ChunkFormat(self.rate, self.samples, self.channels)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides which audio is chunk i of which split."""
        return _hash([[name, self.split_fingerprint(name)] for name in sorted(self.splits)])

    def split_fingerprint(self, name: str) -> str:
        """The same for one split."""
        rows = [[shard.file, shard.chunks, shard.xxh3] for shard in self.splits[name]]
        return _hash([self.rate, self.samples, rows] + [self.channels] * (self.channels != 1))

    def recordings_at(self, row: int, start: int, samples: int = 0) -> list[str]:
        """Paths of the recordings in ``samples`` samples (0: a chunk) of source ``row`` from sample ``start`` on."""
        source = self.sources[row]
        if source.members is None:
            return [source.path]
        end = start + (samples or self.samples)
        return [self.sources[one].path for one, begin, count in source.members if begin < end and begin + count > start]

    def chunks(self, name: str) -> int:
        """Number of chunks of a split."""
        return sum(shard.chunks for shard in self.splits[name])

    def check_shards(self, folder: Path, name: str, rank: int = 0, world: int = 1) -> None:
        """Raise DataError naming the first shard of a split that is missing, of another size or of another build.

        ``world`` processes share the shards: this one checks those whose number is ``rank`` modulo ``world``.
        """
        shape, mine = self.chunk_format, self.splits[name][rank::world]
        with ThreadPoolExecutor(CHECKERS, "shard-check") as pool:  # a network file system takes a while for each
            for _ in pool.map(lambda shard: _check_shard(Path(folder) / shard.file, shard, shape), mine):
                pass

    def save(self, folder: Path) -> None:
        """Write ``dataset.json`` into the folder, whole or not at all. Raises DataError where it would be too large."""
        content = {"format_version": FORMAT_VERSION, **vars(self), "fingerprint": self.fingerprint}
        if self.channels == 1:  # versions before write nothing of channels
            del content["channels"]
        else:
            content["format_version"] = STEREO_VERSION
        text = json.dumps(content, indent=1, default=vars) + "\n"
        if len(text) > LIMIT:
            raise DataError(
                f"{folder / FILE_NAME} would have {len(text):,} bytes, more than {LIMIT:,}: build two folders"
            )
        write_atomically(folder / FILE_NAME, text)

    @classmethod
    def load(cls, folder: str | Path) -> "Manifest":
        """Read and check the manifest of a data folder. Raises DataError naming what is wrong."""
        return cls.parse(cls.read(folder), Path(folder) / FILE_NAME)

    @staticmethod
    def read(folder: str | Path) -> bytes:
        """The content of a data folder's manifest, for ``parse``. Raises DataError when it cannot be read."""
        path = Path(folder) / FILE_NAME
        try:
            return read_file(path, follow_links=True, limit=LIMIT)
        except FileNotFoundError:
            raise DataError(
                f"{folder} has no {FILE_NAME}: it is no data folder, or its build has not finished. "
                f"Run: python -m shards build AUDIO_DIR {folder}"
            ) from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None

    @classmethod
    def parse(cls, content: bytes, path: str | Path) -> "Manifest":
        """Check the content of a manifest. Raises DataError naming ``path`` and what is wrong."""
        if sum(map(content.count, (b",", b"[", b"{"))) > 100_000 + len(content) // 8:
            # In memory that would take twenty times the file's size.
            raise _broken(path, "it has too many values for its size")
        try:
            return _parse(parse_json(content))
        except (JSONError, InvalidError) as error:
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
            ends = read_ends(path, shard.chunks, shape)
            wrong = complaint(ends, shard.ends, shard.identity, shard.chunks, shape)
            if wrong:
                raise DataError(f"shard {path} {wrong}. {remedy.capitalize()}")
    except OSError as error:
        raise DataError(f"shard {path} cannot be read ({error.strerror}): {remedy}") from None


def _broken(path: str | Path, what: str) -> DataError:
    return DataError(f"{path}: {what}. Build the data again into another folder, or restore this file")


def _hash(content: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(content).encode())


def _parse(content: Any) -> Manifest:
    top = Fields(content, "the file")
    version = top.integer("format_version")
    if version not in (FORMAT_VERSION, STEREO_VERSION):
        raise InvalidError(
            f"format_version is {short(version)}, this version reads {FORMAT_VERSION} and {STEREO_VERSION}"
        )
    channels = top.integer("channels", least=1, most=2) if "channels" in top.content else 1
    if (channels == 1) != (version == FORMAT_VERSION):
        raise InvalidError(f"channels are {channels}, which does not fit format_version {version}")
    splits = {
        name: [parse_shard(row, f"shard {i} of {name}") for i, row in enumerate(as_list(rows, f"splits.{name}"))]
        for name, rows in top.mapping("splits").items()
    }
    levels = {name: parse_level(row, f"levels.{name}") for name, row in top.mapping("levels").items()}
    sources = [parse_source(row, f"source {i}") for i, row in enumerate(as_list(top.get("sources"), "sources"))]
    prints = as_list(top.optional("prints", []), "prints")
    manifest = Manifest(
        rate=top.integer("rate", least=1, most=HIGHEST),
        samples=top.integer("samples", least=1, most=MAX_SAMPLES // channels),
        hop=top.integer("hop", least=1),
        level=top.text("level"),
        settings=top.mapping("settings"),
        splits=splits,
        levels=levels,
        sources=sources,
        prints=[parse_listed(row, f"prints {i}") for i, row in enumerate(prints)],
        channels=channels,
    )
    files = [shard.file for shards in splits.values() for shard in shards]
    if len(set(files)) < len(files):
        raise InvalidError("a shard is listed twice")
    for shard in (shard for shards in splits.values() for shard in shards):
        if shard.bytes != manifest.chunk_format.shard_bytes(shard.chunks):
            raise InvalidError(f"shard {shard.file} cannot hold {shard.chunks} chunks in {shard.bytes} bytes")
    if levels.keys() != splits.keys():
        raise InvalidError("splits and levels name different splits")
    for source in sources:
        if any(one >= len(sources) for one, _, _ in source.members or ()):
            raise InvalidError(f"a member of source {source.path} is not listed")
        if source.split is not None and source.split not in splits:
            raise InvalidError(f"source {source.path} is in a split {short(source.split)} that is not listed")
    if top.text("fingerprint") != manifest.fingerprint:
        raise InvalidError("its fingerprint does not fit its shards, so it was changed after the build")
    return manifest
