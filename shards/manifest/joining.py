"""The manifests of several data sets joined to one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from shards.errors import DataError
from shards.manifest.data_set import Manifest
from shards.manifest.rows import Level, Source

MARGIN_DB = 0.01  # by which rounding may take a peak beyond full scale


@dataclass(frozen=True)
class DataSet:
    """One data set of a split that may have several.

    Attributes:
        name: What tables call it: the last part of its path, unlike those of the others.
        where: Its folder or URL as people see it.
        fingerprint: Of its split.
        chunks: Chunks of the split.
        sources: Recordings of the whole data set, skipped ones too.
        gain_db: What its chunks are amplified by, in dB.
    """

    name: str
    where: str
    fingerprint: str
    chunks: int
    sources: int
    gain_db: float = 0.0


def set_names(places: Sequence[str]) -> list[str]:
    """Short names for data sets: the last part of the path, with a number where that is not unique."""
    lasts = [PurePosixPath(place.split("?")[0]).name for place in places]
    plain = ["data" if name in ("", "..") else name for name in lasts]
    taken: set[str] = set()
    names = []
    for name in plain:
        count, own = 1, name
        while own in taken or (count > 1 and own in plain):
            count += 1
            own = f"{name}-{count}"
        taken.add(own)
        names.append(own)
    return names


def join_manifests(manifests: Sequence[Manifest], names: Sequence[str]) -> Manifest:
    """One manifest of several: shards and recordings one after the other, with the set's name before each path.

    Raises DataError where chunks of the sets do not fit together.
    """
    first = manifests[0]
    if len(manifests) == 1:
        return first
    for name, other in zip(names, manifests, strict=True):
        for what, unit in (("samples", "samples"), ("rate", "Hz"), ("level", ""), ("channels", "")):
            one, two = getattr(first, what), getattr(other, what)
            if one != two:
                raise DataError(
                    f"the data sets differ in their {what}: {one} {unit}".rstrip()
                    + f" in {names[0]}, {two} {unit}".rstrip()
                    + f" in {name}; build one of them again with the --{what} of the other"
                )
    sources: list[Source] = []
    for name, manifest in zip(names, manifests, strict=True):
        offset = len(sources)
        sources += [_moved(source, name, offset) for source in manifest.sources]
    splits = sorted({name for manifest in manifests for name in manifest.splits})
    held = {name: [manifest for manifest in manifests if manifest.splits.get(name)] for name in splits}
    return replace(
        first,
        hop=min(manifest.hop for manifest in manifests),
        splits={name: [row for manifest in held[name] for row in manifest.splits[name]] for name in splits},
        levels={name: _level([manifest.levels[name] for manifest in held[name]]) for name in splits if held[name]},
        sources=sources,
        prints=[],
    )


def _moved(source: Source, name: str, offset: int) -> Source:
    members = source.members and [[row + offset, first, count] for row, first, count in source.members]
    copy_of = source.copy_of and f"{name}/{source.copy_of}"
    return replace(source, path=f"{name}/{source.path}", copy_of=copy_of, members=members)


def _level(levels: list[Level]) -> Level:
    hours = math.fsum(level.hours for level in levels)
    energy = math.fsum(level.hours * level.rms**2 for level in levels)
    return Level(
        chunks=sum(level.chunks for level in levels),
        hours=hours,
        rms=math.sqrt(energy / hours) if hours else 0.0,
        peak=max(level.peak for level in levels),
        silent_chunks=sum(level.silent_chunks for level in levels),
        left_out=sum(level.left_out for level in levels),
    )


def check_gain(manifest: Manifest, split: str, gain_db: float, where: str) -> None:
    """Raises DataError when a gain would take the loudest recording of a split beyond full scale."""
    if gain_db <= 0 or not (level := manifest.levels.get(split)) or not level.peak:
        return
    room = -20 * math.log10(level.peak)
    if gain_db > room + MARGIN_DB:
        raise DataError(
            f"{where}: a gain of {gain_db:g} dB would clip, as its loudest recording has {max(room, 0.0):.1f} dB to "
            "full scale; turn the other data sets down instead"
        )
