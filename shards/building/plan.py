"""What a build will do: which recording goes to which split and which part, decided before any decoding."""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import soundfile
import xxhash

from shards.building.recording import RecordingError, reason
from shards.errors import DataError

PART_CHUNKS = 16384  # chunks of one unit of work: about eight shards
EDGE = 1 << 16  # bytes read at either end of a file for its fingerprint
NOT_AUDIO = "not audio"
# A file that is no audio to libsndfile is a lost recording under one of these endings, any file otherwise.
_AUDIO = {"." + name.lower() for name in soundfile.available_formats()} - {".raw"}
_AUDIO |= {
    ".aif",
    ".aifc",
    ".m4a",
    ".mp4",
    ".aac",
    ".opus",
    ".wma",
    ".oga",
    ".mp2",
    ".webm",
    ".amr",
    ".ape",
    ".wv",
}


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a data set, beside its recordings."""

    rate: int  # Hz
    samples: int  # of a chunk
    hop: int  # samples
    level: str
    valid: float  # share of recordings
    test: float
    chunks_per_shard: int


@dataclass(frozen=True)
class Candidate:
    """A file of the audio folder before it is decoded."""

    path: str  # relative, with forward slashes
    size: int  # bytes
    modified: int  # ns
    fingerprint: str
    seconds: float  # 0 when it has a problem
    problem: str  # why it is skipped without decoding it
    split: str | None = None


@dataclass(frozen=True)
class Part:
    """A unit of work, whole recordings: makes its own shards."""

    index: int
    sources: dict[int, Candidate]  # by row in the manifest
    shards: dict[str, int]  # how many of each split


@dataclass(frozen=True)
class Plan:
    """The same for the same settings and recordings, however many workers carry it out."""

    settings: Settings
    candidates: list[Candidate]
    parts: list[Part]

    @property
    def key(self) -> str:
        """Changes when a setting or a recording does."""
        content = [asdict(self.settings), [asdict(candidate) for candidate in self.candidates]]
        return xxhash.xxh3_128_hexdigest(json.dumps(content).encode())


def find_files(folder: Path) -> list[str]:
    """All regular files below a folder but hidden ones, as sorted relative paths; links are followed."""

    def fail(error: OSError) -> None:
        raise DataError(f"cannot list {error.filename}: {error.strerror}")

    found, visited = [], set()
    for here, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(here)
        if real in visited:  # a link back into the tree
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(here, name) for name in files if not name.startswith("."))
        found += [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
    return sorted(found)


def probe(folder: Path, path: str) -> Candidate:
    """Look at one file without decoding it."""
    file = folder / path
    size, modified, fingerprint, seconds, problem = 0, 0, "", 0.0, ""
    try:
        status = file.stat()
        size, modified = status.st_size, status.st_mtime_ns
        fingerprint = _fingerprint(file, size)
        if size == 0:
            raise RecordingError("empty: it has no bytes")
        info = soundfile.info(file)
        if info.frames == 0:
            raise RecordingError("empty: it has no samples")
        # Streams may not know their length; the size stands in, which only balances the parts.
        seconds = info.frames / info.samplerate if info.frames < 2**62 else size / 32000
    except RecordingError as error:
        problem = str(error)
    except Exception as error:  # soundfile raises many kinds, from TypeError to its own
        problem = reason(error) if file.suffix.lower() in _AUDIO else NOT_AUDIO
    return Candidate(path, size, modified, fingerprint, seconds, problem)


def _fingerprint(file: Path, size: int) -> str:
    """Hash of a file's size and ends, cheap enough for terabytes of recordings."""
    with open(file, "rb") as stream:
        head = stream.read(EDGE)
        stream.seek(max(size - EDGE, 0))
        return xxhash.xxh3_128_hexdigest(size.to_bytes(8, "little") + head + stream.read(EDGE))


def make_plan(settings: Settings, candidates: Iterable[Candidate]) -> Plan:
    """Assign splits and parts. ``candidates`` come in the order of their paths."""
    sources = assign_splits(settings, list(candidates))
    return Plan(settings, sources, _make_parts(settings, sources))


def assign_splits(settings: Settings, candidates: list[Candidate]) -> list[Candidate]:
    """Give each readable recording its split by its fingerprint, so that adding recordings moves none.

    A split that chance would leave empty gets one recording (and its copies): the first, in the order of
    fingerprints, that fills a chunk.
    """
    readable = sorted({c.fingerprint: c for c in candidates if not c.problem}.values(), key=lambda c: c.fingerprint)
    split = {c.fingerprint: _split_of(c.fingerprint, settings) for c in readable}
    whole = [c.fingerprint for c in readable if c.seconds * settings.rate >= settings.samples] or list(split)
    for wanted, share in (("train", 1.0), ("valid", settings.valid)):
        present = list(split.values())
        # Train comes first and gives nothing up when it has only one.
        spare = [f for f in whole if wanted == "train" or split[f] != "train" or present.count("train") > 1]
        if share > 0 and wanted not in present and spare:
            split[spare[0]] = wanted
    return [c if c.problem else replace(c, split=split[c.fingerprint]) for c in candidates]


def _split_of(fingerprint: str, settings: Settings) -> str:
    share = int(fingerprint[:13], 16) / 16**13
    if share < settings.valid:
        return "valid"
    return "test" if share < settings.valid + settings.test else "train"


def _make_parts(settings: Settings, candidates: list[Candidate]) -> list[Part]:
    rows = [row for row, candidate in enumerate(candidates) if not candidate.problem]
    rows.sort(key=lambda row: (candidates[row].fingerprint, row))
    groups: list[list[int]] = []
    filled = PART_CHUNKS
    for row in rows:
        if filled >= PART_CHUNKS:
            groups.append([])
            filled = 0
        groups[-1].append(row)
        filled += _chunks(settings, candidates[row])
    parts = []
    for index, group in enumerate(groups):
        estimate: dict[str, int] = {}
        for row in group:
            split = candidates[row].split
            estimate[split] = estimate.get(split, 0) + _chunks(settings, candidates[row])
        shards = {name: max(1, round(chunks / settings.chunks_per_shard)) for name, chunks in estimate.items()}
        parts.append(Part(index, {row: candidates[row] for row in group}, shards))
    return parts


def _chunks(settings: Settings, candidate: Candidate) -> int:
    return 1 + max(0, math.ceil((candidate.seconds * settings.rate - settings.samples) / settings.hop))
