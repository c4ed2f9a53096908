"""Every byte of every shard against the manifest."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from shards.chunk import (
    CHECKSUM_BYTES,
    END_OF_TAR,
    HEADERS,
    NAME_LENGTH,
    RIFF_HEADER,
    TAR_HEADER,
    ChunkFormat,
    read_names,
    stored_identities,
)
from shards.errors import DataError
from shards.files import open_regular
from shards.files.hashing import xxh3_of
from shards.manifest import Listed, Shard
from shards.progress import progress
from shards.reading.manifests import is_url, load_manifest
from shards.text import printable

if TYPE_CHECKING:  # it imports many others, which only a URL needs
    from shards.reading.remote.records import RemoteRecords

BATCH = 16 << 20  # bytes of records looked at together, and at least one record


@dataclass(frozen=True)
class Damage:
    """What is wrong with a shard, and where it was first seen."""

    file: str
    what: str


def verify(data_dir: str | Path) -> None:
    """Read every shard and name each that is damaged; exit code 1 when one is.

    Args:
        data_dir: Data folder made by build, or its URL (s3://, gs://, https://).
    """
    manifest, where = load_manifest(data_dir)
    shards = [shard for rows in manifest.splits.values() for shard in rows]
    damages, done = [], 0
    total = sum(shard.bytes for shard in shards)
    with _checker(data_dir, shards, manifest.chunk_format) as check, progress("verifying", total) as update:
        for number, shard in enumerate(shards):
            damage = check(number)
            damages += [damage] if damage else []
            done += shard.bytes
            update(done)
    if not is_url(data_dir):
        _check_prints(Path(data_dir), manifest.prints)
    for damage in damages:
        print(printable(f"{damage.file}: {damage.what}"))
    if damages:
        raise DataError(f"{len(damages)} of {len(shards)} shards in {where} are damaged: copy or build them again")
    chunks = sum(shard.chunks for shard in shards)
    print(printable(f"{where}: {len(shards)} shards, {chunks} chunks, {done / 1e6:.0f} MB, every byte as built"))


def _check_prints(folder: Path, listed: list[Listed]) -> None:
    """Warns of a damaged file of acoustic fingerprints; no training needs one."""
    for one in listed:
        try:
            sound = xxh3_of(folder / one.file) == one.xxh3
        except OSError:
            sound = False
        if not sound:
            what = "is missing or damaged: recordings that are added later are not compared with those in it"
            print(printable(f"warning: {one.file} {what}"), file=sys.stderr)


@contextmanager
def _checker(data_dir: str | Path, shards: list[Shard], shape: ChunkFormat) -> Iterator[Callable[[int], Damage | None]]:
    """The function that checks a shard by its number."""
    if not is_url(data_dir):
        yield lambda number: check_shard(Path(data_dir) / shards[number].file, shards[number], shape)
        return
    from shards.reading.remote.records import RemoteRecords

    with RemoteRecords(str(data_dir), shards, shape, connections=1, verify_sizes=False) as records:
        firsts = np.cumsum([0, *(shard.chunks for shard in shards)])
        yield lambda number: check_remote(records, int(firsts[number]), shards[number], shape)


def check_shard(path: Path, shard: Shard, shape: ChunkFormat) -> Damage | None:
    """The first damage in a shard of a folder, or None."""
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            return _of_size(shard, size)
        with open(open_regular(path, follow_links=True), "rb") as file:

            def read(_: int, out: np.ndarray) -> None:
                if file.readinto(out.data.cast("B")) < out.nbytes:
                    raise OSError(0, "it became shorter while it was read")

            return _first_damage(shard, shape, read, read)
    except OSError as error:
        return Damage(shard.file, f"cannot be read ({error.strerror})")


def check_remote(records: "RemoteRecords", first: int, shard: Shard, shape: ChunkFormat) -> Damage | None:
    """The first damage in a shard behind a URL, or None; ``first`` is the number of its first record in ``records``.

    What arrives damaged is fetched once more. Raises DataError when the server does not answer, or refuses.
    """
    from shards.reading.remote.failures import MissingError

    try:
        size = records.size(shard.file)
    except MissingError:
        return Damage(shard.file, "is missing")
    if size is not None and size != shard.bytes:
        return _of_size(shard, size)
    return _first_damage(
        shard,
        shape,
        lambda row, out: records.read(first + row, out),
        lambda offset, out: records.read_piece(shard.file, offset, out.data.cast("B")),
    )


def _of_size(shard: Shard, size: int) -> Damage:
    return Damage(shard.file, f"{size} bytes instead of {shard.bytes}")


def _first_damage(
    shard: Shard,
    shape: ChunkFormat,
    read_records: Callable[[int, np.ndarray], None],
    read_bytes: Callable[[int, np.ndarray], None],
) -> Damage | None:
    """The first damage in a shard of the right size, read from its beginning to its end.

    ``read_records`` fills uint8 [n, stride] with the records from a row on, ``read_bytes`` uint8 [n] from a byte on.
    """
    checksum = xxhash.xxh3_128()
    memory = np.empty((max(1, min(BATCH // shape.stride, shard.chunks)), shape.stride), np.uint8)
    for begin in range(0, shard.chunks, len(memory)):
        rows = memory[: min(len(memory), shard.chunks - begin)]
        read_records(begin, rows)
        checksum.update(rows.data)
        found = _first_bad(rows, shape, shard.identity)
        if found is not None:
            row, what = found
            where = (begin + row) * shape.stride
            return Damage(shard.file, f"member {begin + row} at byte {where}: {what}")
    end = np.empty(len(END_OF_TAR), np.uint8)
    read_bytes(shard.chunks * shape.stride, end)
    if end.tobytes() != END_OF_TAR:
        return Damage(shard.file, f"the end, from byte {shard.chunks * shape.stride}, is damaged")
    checksum.update(end.data)
    if checksum.hexdigest() != shard.xxh3:
        return Damage(shard.file, "its checksum differs though every member is sound: another shard than was built")
    return None


def _first_bad(rows: np.ndarray, shape: ChunkFormat, identity: str) -> tuple[int, str] | None:
    """Row and complaint of the first record, uint8 [n, stride], that is not as the builder writes it."""
    source, start, named = read_names(rows[:, :NAME_LENGTH])
    right = shape.headers(np.where(named, source, 0), np.where(named, start, 0), identity)
    stored = slice(RIFF_HEADER, RIFF_HEADER + CHECKSUM_BYTES)
    other = (rows[:, shape.hashed :] != shape.trailer) & ~np.isin(np.arange(len(shape.trailer)), np.r_[stored])
    sound = shape.checksums(rows) == shape.stored_checksums(rows)
    another = (stored_identities(rows) != stored_identities(right)).any(axis=1)
    complaints = {
        "it is of another shard or of another build": sound & another,
        "its name is damaged": ~named,
        "its tar header is damaged": (rows[:, :TAR_HEADER] != right[:, :TAR_HEADER]).any(axis=1),
        "its WAV header is damaged": (rows[:, TAR_HEADER:HEADERS] != right[:, TAR_HEADER:HEADERS]).any(axis=1),
        "its padding is damaged": other.any(axis=1),
        "its samples or their checksum have changed": ~sound,
    }
    first: tuple[int, str] | None = None
    for what, bad in complaints.items():
        if bad.any() and (first is None or bad.argmax() < first[0]):
            row = int(bad.argmax())
            first = row, f"{what} ({rows[row, :NAME_LENGTH].tobytes().decode('ascii', 'backslashreplace')})"
    return first
