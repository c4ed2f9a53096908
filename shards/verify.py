"""Every byte of every shard against the manifest."""

from dataclasses import dataclass
from pathlib import Path

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
)
from shards.errors import DataError
from shards.files import open_regular
from shards.manifest import Manifest, Shard
from shards.progress import progress
from shards.text import printable

BATCH = 256  # records looked at together


@dataclass(frozen=True)
class Damage:
    """What is wrong with a shard, and where it was first seen."""

    file: str
    what: str


def verify(data_dir: Path) -> None:
    """Read every shard and name each that is damaged; exit code 1 when one is.

    Args:
        data_dir: Data folder made by build.
    """
    manifest = Manifest.load(data_dir)
    shards = [shard for shards in manifest.splits.values() for shard in shards]
    damages, done = [], 0
    with progress("verifying", sum(shard.bytes for shard in shards)) as update:
        for shard in shards:
            damage = check_shard(data_dir / shard.file, shard, manifest.chunk_format)
            damages += [damage] if damage else []
            done += shard.bytes
            update(done)
    for damage in damages:
        print(printable(f"{damage.file}: {damage.what}"))
    if damages:
        raise DataError(f"{len(damages)} of {len(shards)} shards in {data_dir} are damaged: copy or build them again")
    chunks = sum(shard.chunks for shard in shards)
    print(printable(f"{data_dir}: {len(shards)} shards, {chunks} chunks, {done / 1e6:.0f} MB, every byte as built"))


def check_shard(path: Path, shard: Shard, shape: ChunkFormat) -> Damage | None:
    """The first damage in a shard, or None."""
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            return Damage(shard.file, f"{size} bytes instead of {shard.bytes}")
        checksum = xxhash.xxh3_128()
        with open(open_regular(path, follow_links=True), "rb") as file:
            for begin in range(0, shard.chunks, BATCH):
                count = min(BATCH, shard.chunks - begin)
                data = file.read(count * shape.stride)
                checksum.update(data)
                rows = np.frombuffer(data, np.uint8).reshape(count, shape.stride)
                found = _first_bad(rows, shape)
                if found is not None:
                    row, what = found
                    where = (begin + row) * shape.stride
                    return Damage(shard.file, f"member {begin + row} at byte {where}: {what}")
            end = file.read()
    except OSError as error:
        return Damage(shard.file, f"cannot be read ({error.strerror})")
    if end != END_OF_TAR:
        return Damage(shard.file, f"the end, from byte {shard.chunks * shape.stride}, is damaged")
    checksum.update(end)
    if checksum.hexdigest() != shard.xxh3:
        return Damage(shard.file, "its checksum differs though every member is sound: another shard than was built")
    return None


def _first_bad(rows: np.ndarray, shape: ChunkFormat) -> tuple[int, str] | None:
    """Row and complaint of the first record, uint8 [n, stride], that is not as the builder writes it."""
    source, start, named = read_names(rows[:, :NAME_LENGTH])
    right = shape.headers(np.where(named, source, 0), np.where(named, start, 0))
    stored = slice(RIFF_HEADER, RIFF_HEADER + CHECKSUM_BYTES)
    other = (rows[:, shape.hashed :] != shape.trailer) & ~np.isin(np.arange(len(shape.trailer)), np.r_[stored])
    complaints = {
        "its name is damaged": ~named,
        "its tar header is damaged": (rows[:, :TAR_HEADER] != right[:, :TAR_HEADER]).any(axis=1),
        "its WAV header is damaged": (rows[:, TAR_HEADER:HEADERS] != right[:, TAR_HEADER:HEADERS]).any(axis=1),
        "its padding is damaged": other.any(axis=1),
        "its samples or their checksum have changed": shape.checksums(rows) != shape.stored_checksums(rows),
    }
    first: tuple[int, str] | None = None
    for what, bad in complaints.items():
        if bad.any() and (first is None or bad.argmax() < first[0]):
            row = int(bad.argmax())
            first = row, f"{what} ({rows[row, :NAME_LENGTH].tobytes().decode('ascii', 'backslashreplace')})"
    return first
