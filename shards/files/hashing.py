"""Hashes of files by xxh3. Apart from the rest of the room, which needs the standard library only."""

import os
from pathlib import Path

import xxhash

PIECE = 1 << 18  # bytes read at a time


def xxh3_of(path: Path) -> str:
    """xxh3-128 of a file, 32 hexadecimal digits; the file is read in pieces. Raises OSError."""
    checksum, buffer = xxhash.xxh3_128(), memoryview(bytearray(PIECE))
    with open(os.fsencode(path), "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            checksum.update(buffer[:count])
    return checksum.hexdigest()
