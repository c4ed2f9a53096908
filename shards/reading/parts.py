"""The data sets of a split, opened one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.chunk import ChunkFormat
from shards.errors import DataError
from shards.manifest import Manifest
from shards.manifest.joining import DataSet, check_gain, join_manifests, set_names
from shards.mixing.places import Place, parse_places, text_of
from shards.reading.manifests import is_url, load_manifest, shown
from shards.reading.remote.records import RemoteRecords
from shards.reading.sources.local import LocalRecords
from shards.reading.sources.local_cache import CachedRecords
from shards.reading.sources.memory import available_memory
from shards.reading.sources.records import Records


@dataclass(frozen=True)
class Part:
    """A data set as it is named, and as it is known to the split.

    Attributes:
        path: Its folder or URL.
        manifest: What it holds.
        set: Its part of the split.
    """

    path: str
    manifest: Manifest
    set: DataSet

    def check(self, name: str, share: tuple[int, int]) -> None:
        """Raises DataError when a shard disagrees with the manifest; of a URL nothing is looked at."""
        if not is_url(self.path):
            self.manifest.check_shards(Path(self.path), name, *share)

    def records(self, name: str, verify_sizes: bool) -> Records:
        """Where its bytes come from."""
        rows, shape = self.manifest.splits[name], self.manifest.chunk_format
        if is_url(self.path):
            return RemoteRecords(self.path, rows, shape, verify_sizes=verify_sizes)
        return LocalRecords(Path(self.path), rows, shape)


def names_of(places: Sequence[Place]) -> list[str]:
    """What tables call the data sets."""
    return set_names([shown(place.path) for place in places])


def parts_of(places: Sequence[Place], manifests: Sequence[Manifest], name: str) -> list[Part]:
    """All data sets, with what each has of a split.

    Raises DataError where none has it, where one has nothing to train on, or where one is named twice.
    """
    names, parts = names_of(places), []
    for place, manifest, own in zip(places, manifests, names, strict=True):
        where = shown(place.path)
        has = bool(manifest.splits.get(name))
        if not has and (name == "train" or len(places) == 1):
            raise DataError(_no_split(where, name, manifest))
        check_gain(manifest, name, place.gain_db, where)
        chunks = manifest.chunks(name) if has else 0
        fingerprint = manifest.split_fingerprint(name) if has else ""
        parts.append(
            Part(place.path, manifest, DataSet(own, where, fingerprint, chunks, len(manifest.sources), place.gain_db))
        )
    if not any(part.set.chunks for part in parts):
        raise DataError(f"none of the data sets {', '.join(names)} has a split {name!r}: build one with --valid 0.2")
    found = [part.set for part in parts if part.set.chunks]
    for one in found:
        same = [other.where for other in found if other.fingerprint == one.fingerprint]
        if len(same) > 1:
            raise DataError(f"{same[0]} and {same[1]} are the same data set: name it once, with a larger share")
    return parts


def load_joined(data_dir: str | Path) -> tuple[Manifest, list[Manifest], str]:
    """The joined manifest of the data sets that a text names, those of each, and what people call the place.

    Raises DataError naming what is wrong.
    """
    places = parse_places(data_dir)
    manifests = [load_manifest(place.path)[0] for place in places]
    return join_manifests(manifests, names_of(places)), manifests, text_of(places, shown)


def copied(
    sources: list[Records], sets: Sequence[DataSet], shape: ChunkFormat, folder: Path, limit: int
) -> list[Records]:
    """The same records through copies on the node's disk, each with room in proportion to its size.

    Raises DataError when the folder cannot be written; all sources are closed then.
    """
    total = sum(one.chunks for one in sets)
    large = total * shape.stride > available_memory() // 2
    result: list[Records] = []
    try:
        for source, one in zip(sources, sets, strict=True):
            room = limit * one.chunks // total
            result.append(CachedRecords(source, folder, one.fingerprint, one.chunks, shape, room, direct=large))
    except BaseException:
        for records in [*result, *sources[len(result) :]]:
            records.close()
        raise
    return result


def _no_split(where: str, name: str, manifest: Manifest) -> str:
    there = ", ".join(key for key, rows in manifest.splits.items() if rows) or "nothing"
    return (
        f"{where} has no split {name!r}, only {there}; name one, or build from more recordings, or with "
        "a larger share for it (--valid 0.2)"
    )
