"""What a build will do: which recording goes to which split and which part, decided before any decoding."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import xxhash

from shards.building.probe import DANGLING, Candidate
from shards.chunk import MAX_SOURCE
from shards.errors import DataError
from shards.manifest import Manifest, Source

PART_CHUNKS = 16384  # chunks of one unit of work: about eight shards
LISTED = 5  # recordings named in an error


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
    max_silence: float  # share of a recording's chunks

    def differing(self, others: dict[str, object]) -> str:
        """The flags in which others differ, as they were given there; empty when they are equal."""
        mine = asdict(self)
        return " ".join(f"--{name} {others.get(name)}" for name, value in mine.items() if others.get(name) != value)


@dataclass(frozen=True)
class Part:
    """A unit of work, whole recordings: makes its own shards."""

    index: int
    sources: dict[int, Candidate]  # by row in the manifest

    @property
    def seconds(self) -> float:
        """Length of its recordings."""
        return math.fsum(candidate.seconds for candidate in self.sources.values())


@dataclass(frozen=True)
class Plan:
    """The files that a build adds to a data set, which is empty at first.

    It is made once and kept in a file, so that all tasks and attempts carry out the same.
    """

    settings: Settings
    audio_dir: str
    base: str  # fingerprint of the data set that it adds to
    first_part: int
    sources: dict[int, Candidate]  # by row in the manifest

    @cached_property
    def key(self) -> str:
        """Changes when a setting or a recording does."""
        return xxhash.xxh3_128_hexdigest(self.to_json().encode())

    @cached_property
    def parts(self) -> list[Part]:
        """Units of work, the same however many workers or tasks carry them out."""
        rows = [row for row, candidate in self.sources.items() if not candidate.problem]
        rows.sort(key=lambda row: (self.sources[row].fingerprint, row))
        groups: list[dict[int, Candidate]] = []
        filled = PART_CHUNKS
        for row in rows:
            if filled >= PART_CHUNKS:
                groups.append({})
                filled = 0
            groups[-1][row] = self.sources[row]
            filled += self._chunks(self.sources[row])
        return [Part(self.first_part + i, group) for i, group in enumerate(groups)]

    def _chunks(self, candidate: Candidate) -> int:
        beyond = candidate.seconds * self.settings.rate - self.settings.samples
        return 1 + max(0, math.ceil(beyond / self.settings.hop))

    def to_json(self) -> str:
        """As text that ``from_json`` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Raises ValueError, TypeError or KeyError when the text is no plan of this version."""
        content = json.loads(text)
        content["settings"] = Settings(**content["settings"])
        content["sources"] = {int(row): Candidate(**fields) for row, fields in content["sources"].items()}
        return cls(**content)


def make_plan(settings: Settings, candidates: Iterable[Candidate], manifest: Manifest | None, folder: Path) -> Plan:
    """What is to be added to a data set (None: a new one) so that it holds all candidates.

    ``candidates`` are all files of the audio folder ``folder``, in the order of their paths. Raises DataError
    when a recording that the data set holds has changed or is gone.
    """
    old = manifest.sources if manifest else []
    new = _additions(old, list(candidates), folder)
    if len(old) + len(new) > MAX_SOURCE:
        raise DataError(f"{folder} holds more than {MAX_SOURCE:,} files: the names of chunks cannot number them")
    splits = assign_splits(settings, list(new.values()), old)
    sources = dict(zip(new, splits, strict=True))
    return Plan(settings, str(folder), manifest.fingerprint if manifest else "", _first_part(manifest), sources)


def _additions(old: list[Source], candidates: list[Candidate], folder: Path) -> dict[int, Candidate]:
    """New files by the rows they get: behind the old ones, but a file that was skipped and has changed keeps its."""
    rows = {source.path: row for row, source in enumerate(old)}
    found = {candidate.path for candidate in candidates if candidate.problem != DANGLING}
    lost = [source.path for source in old if source.split is not None and source.path not in found]
    changed, new = [], {}
    for candidate in candidates:
        row = rows.get(candidate.path)
        if row is None:
            new[len(rows)] = candidate
            rows[candidate.path] = len(rows)
        elif candidate.fingerprint != old[row].fingerprint:
            if old[row].split is None:
                new[row] = candidate
            else:
                changed.append(candidate.path)
    for paths, what in ((lost, "are no longer there"), (changed, "have changed")):
        if paths:
            named = ", ".join(map(ascii, paths[:LISTED])) + (", ..." if len(paths) > LISTED else "")
            raise DataError(
                f"{len(paths):,} recordings {what} in {folder} since the data was built ({named}): put them back, "
                "or build into another folder; to add recordings, put or link them into the folder of the first ones"
            )
    return dict(sorted(new.items()))


def _first_part(manifest: Manifest | None) -> int:
    """The number behind those in the names of the shards that are there."""
    shards = [shard for rows in manifest.splits.values() for shard in rows] if manifest else []
    numbers = [re.search(r"-(\d{5,})-\d{3,}\.tar$", shard.file) for shard in shards]
    return 1 + max((int(found[1]) for found in numbers if found), default=-1)


def assign_splits(settings: Settings, candidates: list[Candidate], old: Iterable[Source] = ()) -> list[Candidate]:
    """Give each readable recording its split by its fingerprint, so that adding recordings moves none.

    A copy of an ``old`` recording goes where that one is. A recording longer than half of all is for training as long
    as another fills a chunk: held out, it would leave too little to train on. A split that chance would leave empty
    gets one new recording (and its copies): the first, in the order of fingerprints, that fills a chunk.
    """
    old = list(old)
    held = {source.fingerprint: source.split for source in old if source.split is not None}
    readable = sorted({c.fingerprint: c for c in candidates if not c.problem}.values(), key=lambda c: c.fingerprint)
    movable = [c for c in readable if c.fingerprint not in held]
    split = held | {c.fingerprint: _split_of(c.fingerprint, settings) for c in movable}
    half = (math.fsum(source.duration_s for source in old) + math.fsum(c.seconds for c in movable)) / 2
    split |= {c.fingerprint: "train" for c in movable if c.seconds > half}
    whole = [c for c in movable if c.seconds * settings.rate >= settings.samples] or movable
    whole = [c for c in whole if c.seconds <= half] or whole
    for wanted, share in (("train", 1.0), ("valid", settings.valid)):
        present = Counter(split.values())
        # Train comes first and gives nothing up when it has only one.
        spare = [c for c in whole if wanted == "train" or split[c.fingerprint] != "train" or present["train"] > 1]
        if share > 0 and not present[wanted] and spare:
            split[spare[0].fingerprint] = wanted
    return [c if c.problem else replace(c, split=split[c.fingerprint]) for c in candidates]


def _split_of(fingerprint: str, settings: Settings) -> str:
    share = int(fingerprint[:13], 16) / 16**13
    if share < settings.valid:
        return "valid"
    return "test" if share < settings.valid + settings.test else "train"
