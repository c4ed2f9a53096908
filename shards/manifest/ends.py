"""What tells a shard from another one of the same size: its first and its last record.

They hold the shard's identity: a hash of everything that decides the shard's bytes. So they differ also where two
builds differ in a recording that is neither in the first nor in the last record.
"""

import os
from pathlib import Path

import numpy as np
import xxhash

from shards.chunk import ChunkFormat, identity_bytes, stored_identities
from shards.files import open_regular


def read_ends(path: Path, chunks: int, shape: ChunkFormat) -> np.ndarray:
    """The first and the last record of a shard of one or more chunks, uint8 [2, stride].

    Bytes that a short file lacks are zeros. Raises OSError.
    """
    ends = np.zeros((2, shape.stride), np.uint8)
    handle = open_regular(path, follow_links=True)
    try:
        for row, record in zip(ends, (0, chunks - 1), strict=True):
            os.preadv(handle, [row.data], record * shape.stride)
    finally:
        os.close(handle)
    return ends


def hash_of(ends: np.ndarray) -> str:
    """The xxh3-128 of both records, uint8 [2, stride], hexadecimal."""
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(ends).data)


def complaint(ends: np.ndarray, expected: str, identity: str, chunks: int, shape: ChunkFormat) -> str:
    """What is wrong with a shard as a whole, by its first and last record; empty when nothing is.

    A single record with a wrong checksum says nothing about the shard: readers find it and replace it.

    Args:
        ends: The records as they were read, uint8 [2, stride].
        expected: Their hash in the manifest; empty in data sets of versions before, where nothing is compared.
        identity: Of the shard, in the manifest; empty in data sets of versions before.
        chunks: Of the shard. With one chunk, both records are the same.
        shape: Sizes of chunks and records.
    """
    if not expected:
        return ""
    sound = shape.checksums(ends) == shape.stored_checksums(ends)
    if identity and (sound & (stored_identities(ends) != identity_bytes(identity)).any(axis=1)).any():
        return "belongs to another build: its records name another shard than the manifest does"
    if hash_of(ends) == expected:
        return ""
    if not ends.any(axis=1).all():
        return "begins or ends with zeros, so only a part of it was copied"
    if sound.all():
        return "belongs to another build: its first or last record differs from the manifest"
    if chunks > 1 and not sound.any():
        return "holds other data: neither its first nor its last record is sound"
    return ""
