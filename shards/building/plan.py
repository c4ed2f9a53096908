"""What a build will do: which recording goes to which split and which part, decided before any decoding."""

import itertools
import json
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from shards.audio.mixing import MEAN
from shards.audio.recording import Decoder
from shards.building.probe import DANGLING, Candidate
from shards.chunk import MAX_SOURCE, ChunkFormat
from shards.errors import DataError
from shards.manifest import Manifest, Source
from shards.splits.chance import Unit, draw
from shards.splits.given import grouping, splits_of_folders, splits_of_table
from shards.splits.units import joined
from shards.text import first_few

LATER = {"channels": 1, "keep_one_sided": False}  # settings that versions before do not have, with their defaults
PART_CHUNKS = 16384  # chunks of one unit of work: about eight shards


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a data set, beside its recordings."""

    rate: int  # Hz
    samples: int  # of a chunk, in each channel
    hop: int  # samples
    level: str
    valid: float  # share of the audio
    test: float
    chunks_per_shard: int
    max_silence: float  # share of a recording's chunks
    group_by: str = ""
    splits: str = ""  # a CSV file
    split_by_folder: bool = False
    valid_within: bool = False
    copies: str = "together"
    use_channels: str = MEAN
    join_short: bool = False
    channels: int = 1
    keep_one_sided: bool = False

    @property
    def shape(self) -> ChunkFormat:
        """Sizes of chunks and records."""
        return ChunkFormat(self.rate, self.samples, self.channels)

    def decoder(self, scratch: Path) -> Decoder:
        """What reads the recordings; ``scratch`` as ``Decoder`` takes it."""
        return Decoder(self.rate, self.level, scratch, self.use_channels, self.channels, self.keep_one_sided)

    def content(self) -> dict[str, Any]:
        """All of them by name, for files; those of ``LATER`` only where they are set, so that mono stays as it was."""
        return {name: value for name, value in vars(self).items() if name not in LATER or value != LATER[name]}

    @property
    def shares(self) -> dict[str, float]:
        """Of the held-out splits."""
        return {"valid": self.valid, "test": self.test}

    def differing(self, others: dict[str, object]) -> str:
        """The flags in which others differ, as they were given there; empty when they are equal.

        What others do not name, since they are of a version before, has its default there.
        """
        mine, defaults = asdict(self), {field.name: field.default for field in fields(self)}
        theirs = {name: others.get(name, defaults[name]) for name in mine}
        return " ".join(f"--{name} {theirs[name]}" for name, value in mine.items() if theirs[name] != value)


@dataclass(frozen=True)
class Part:
    """A unit of work, whole recordings: makes its own shards."""

    index: int
    sources: dict[int, Candidate]  # by row in the manifest
    key: str  # changes when a setting, one of its recordings or the split of one does
    work: str  # the same without the splits: what is decoded serves other splits, too
    joined: dict[str, int]  # by split the row of its short recordings that share chunks

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
    end: int = 0  # rows of the data set with these
    copies: dict[int, int] = field(default_factory=dict)  # row -> row of the first recording with the same sound
    settled: bool = False  # whether copies were looked for, which is when all recordings are decoded

    @cached_property
    def key(self) -> str:
        """Changes when a setting or a recording does."""
        return xxhash.xxh3_128_hexdigest(self.to_json().encode())

    @cached_property
    def parts(self) -> list[Part]:
        """Units of work, the same however many workers or tasks carry them out."""
        rows = [row for row, candidate in self.sources.items() if not candidate.problem]
        rows.sort(key=lambda row: (self.sources[row].fingerprint, self.sources[row].path, row))
        groups: list[dict[int, Candidate]] = []
        filled, path = PART_CHUNKS, ""
        for row in rows:
            # The parts of a divided recording stay together.
            if filled >= PART_CHUNKS and self.sources[row].path != path:
                groups.append({})
                filled = 0
            path = self.sources[row].path
            groups[-1][row] = self.sources[row]
            filled += self.chunks(self.sources[row])
        parts: list[Part] = []
        for index, group in enumerate(groups, start=self.first_part):
            parts.append(self._part(index, group, self.end + sum(len(part.joined) for part in parts)))
        return parts

    def _part(self, index: int, group: dict[int, Candidate], end: int) -> Part:
        """A part; the rows of its joined recordings begin at ``end``."""
        settings = self.settings
        short = {str(one.split) for one in group.values() if one.seconds * settings.rate < settings.samples}
        joined = dict(zip(sorted(short), itertools.count(end))) if settings.join_short else {}

        undivided = {row: one if one.divided else replace(one, split=None) for row, one in group.items()}

        def key(group: dict[int, Candidate]) -> str:
            rows = {row: vars(one) for row, one in group.items()}
            content = [settings.content(), self.audio_dir, rows, joined if group is not undivided else None]
            return xxhash.xxh3_128_hexdigest(json.dumps(content).encode())

        return Part(index, group, key(group), key(undivided), joined)

    def chunks(self, candidate: Candidate) -> int:
        """About how many chunks a recording gives."""
        beyond = candidate.seconds * self.settings.rate - self.settings.samples
        return 1 + max(0, math.ceil(beyond / self.settings.hop))

    def to_json(self) -> str:
        """As text that ``from_json`` reads."""
        content = {one.name: getattr(self, one.name) for one in fields(self)} | {"settings": self.settings.content()}
        return json.dumps(content, default=vars)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Raises ValueError, TypeError or KeyError when the text is no plan of this version."""
        content = json.loads(text)
        content["settings"] = Settings(**content["settings"])
        content["sources"] = {int(row): Candidate(**values) for row, values in content["sources"].items()}
        content["copies"] = {int(row): first for row, first in content["copies"].items()}
        return cls(**content)


def make_plan(settings: Settings, candidates: Iterable[Candidate], manifest: Manifest | None, folder: Path) -> Plan:
    """What is to be added to a data set (None: a new one) so that it holds all candidates.

    ``candidates`` are all files of the audio folder ``folder``, in the order of their paths. Raises DataError
    when a recording that the data set holds has changed or is gone, or when it has no split where all are given.
    """
    old = manifest.sources if manifest else []
    new = _additions(old, list(candidates), folder)
    group = grouping(settings.group_by)
    new = {row: replace(candidate, group=group(candidate.path)) for row, candidate in new.items()}
    if not given(settings):
        new = _divided(settings, new, len(old) + sum(row >= len(old) for row in new), alone=not old)
    if len(old) + len(new) > MAX_SOURCE:
        raise DataError(f"{folder} holds more than {MAX_SOURCE:,} files: the names of chunks cannot number them")
    split = assign_splits(settings, new, old)
    sources = {row: replace(one, split=split.get(row, one.split)) for row, one in new.items()}
    base = manifest.fingerprint if manifest else ""
    end = max(len(old), *(row + 1 for row in sources)) if sources else len(old)
    return Plan(settings, str(folder), base, _first_part(manifest), sources, end)


def _additions(old: list[Source], candidates: list[Candidate], folder: Path) -> dict[int, Candidate]:
    """New files by the rows they get: behind the old ones, but a file that was skipped and has changed keeps its."""
    rows: dict[str, int] = {}
    for row, source in enumerate(old):
        if source.members is not None:  # no file
            continue
        if source.split is not None or source.path not in rows:  # a divided recording has several rows
            rows[source.path] = row
    found = {candidate.path for candidate in candidates if candidate.problem != DANGLING}
    files = {source.path for source in old if source.split is not None and source.members is None}
    lost = sorted(files - found)
    changed, new, end = [], {}, len(old)
    for candidate in candidates:
        row = rows.get(candidate.path, -1)
        if row < 0:
            new[end] = candidate
            end += 1
        elif old[row].split is None:
            if candidate.fingerprint != old[row].fingerprint or candidate.modified != old[row].modified_ns != 0:
                new[row] = candidate
        elif candidate.fingerprint != old[row].fingerprint:
            changed.append(candidate.path)
    for paths, what in ((lost, "are no longer there"), (changed, "have changed")):
        if paths:
            raise DataError(
                f"{len(paths):,} recordings {what} in {folder} since the data was built ({first_few(paths)}): "
                "put them back, or build into another folder; to add recordings, put or link them into the folder of "
                "the first ones"
            )
    return dict(sorted(new.items()))


def _divided(settings: Settings, new: dict[int, Candidate], end: int, alone: bool) -> dict[int, Candidate]:
    """Gives a recording that is to be divided a row for each split: a single one, or all with --valid-within."""
    readable = [row for row, candidate in new.items() if not candidate.problem]
    names = [name for name, share in settings.shares.items() if share > 0]
    if not names or not (settings.valid_within or (alone and len(readable) == 1)):
        return new
    divided = dict(new)
    for row in readable:
        divided[row] = replace(new[row], split="train", divided=True)
        for name in names:
            divided[end] = replace(new[row], split=name, divided=True)
            end += 1
    return divided


def _first_part(manifest: Manifest | None) -> int:
    """The number behind those in the names of the shards that are there."""
    shards = [shard for rows in manifest.splits.values() for shard in rows] if manifest else []
    numbers = [re.search(r"-(\d{5,})-\d{3,}\.tar$", shard.file) for shard in shards]
    return 1 + max((int(found[1]) for found in numbers if found), default=-1)


def given(settings: Settings) -> bool:
    """Whether the user gives the split of every recording."""
    return bool(settings.splits) or settings.split_by_folder


def assign_splits(
    settings: Settings,
    new: Mapping[int, Candidate],
    old: Sequence[Source] = (),
    copies: Iterable[tuple[int, int]] = (),
) -> dict[int, str]:
    """The splits of the readable recordings of ``new``, by row; ``old`` ones keep theirs.

    Recordings of one group, files with the same bytes and ``copies`` (pairs of rows) stay together. They follow an old
    member, or else the chance of their first one. Divided recordings have their splits already. Raises DataError when
    the user gives splits, but not for all.
    """
    readable = {row: one for row, one in sorted(new.items()) if not one.problem and not one.divided}
    if given(settings):
        paths = [one.path for one in readable.values()]
        by_path = splits_of_folders(paths) if settings.split_by_folder else splits_of_table(settings.splits, paths)
        return {row: by_path[one.path] for row, one in readable.items()}
    whole = {row: source for row, source in enumerate(old) if source.span is None and source.members is None}
    kept = {row: source for row, source in whole.items() if source.split is not None}
    links: list[tuple[Hashable, Hashable]] = []
    for row, source in kept.items():
        links += [(row, f"bytes {source.content or source.fingerprint}"), (row, f"start {source.fingerprint}")]
        links += [(row, f"group {source.group}")] * bool(source.group)
    for row, one in readable.items():
        links += [(row, f"bytes {one.key}")] + [(row, f"group {one.group}")] * bool(one.group)
        # Of an old row of a version before only the fingerprint is known.
        links += [(row, f"start {one.fingerprint}")] * (not one.content)
    links += [(one, two) for one, two in copies if {one, two} <= kept.keys() | readable.keys()]
    lead = joined(links)
    held: dict[Hashable, str] = {}
    for row, source in kept.items():
        held.setdefault(lead[row], str(source.split))
    members: dict[Hashable, list[Candidate]] = {}
    for row, one in readable.items():
        if lead[row] not in held:
            members.setdefault(lead[row], []).append(one)
    units = {first: _unit(settings, found) for first, found in members.items()}
    there: dict[str, float] = {}
    for source in old:
        if source.split is not None:
            there[source.split] = there.get(source.split, 0.0) + source.duration_s
    drawn = draw(units.values(), settings.shares, there)
    split = held | {first: drawn[unit.key] for first, unit in units.items()}
    return {row: split[lead[row]] for row in readable}


def _unit(settings: Settings, members: list[Candidate]) -> Unit:
    first = members[0]
    key = xxhash.xxh3_128_hexdigest(first.group.encode(errors="surrogateescape")) if first.group else first.key
    fills = any(one.seconds * settings.rate >= settings.samples for one in members)
    return Unit(key, math.fsum(one.seconds for one in members), fills)
