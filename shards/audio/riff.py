"""The little of WAV files (RIFF) that libsndfile leaves to its callers: data beyond the size in the header."""

import os
import struct
from pathlib import Path

_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")  # what taggers append
_MOST_CHUNKS = 1000
_TAIL_S = 0.05  # seconds of audio that may lie behind the data before somebody must miss them


def has_more_data(path: str | Path) -> bool:
    """Whether a WAV file holds audio behind the end that its header names.

    A recorder that lost power leaves a size of 0, and a file above 4 GiB one that has wrapped around 32 bits. Then no
    chunk begins where the data are said to end. Raises OSError.
    """
    with open(os.fsencode(path), "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        bytes_per_s = 0
        for _ in range(_MOST_CHUNKS):
            chunk = file.read(8)
            if len(chunk) < 8:
                return False
            name, length = struct.unpack("<4sI", chunk)
            begin = file.tell()
            if name == b"fmt ":
                found = file.read(12)
                bytes_per_s = struct.unpack("<8xI", found)[0] if len(found) == 12 else 0
            end = begin + length + length % 2
            if name == b"data":
                return end + max(16, _TAIL_S * bytes_per_s) < size and not _is_known(file, end, size)
            if end > size:
                return False
            file.seek(end)
    return False


def _is_known(file, begin: int, size: int) -> bool:
    """Whether a chunk, a tag or nothing but zeros begins at a place behind the data."""
    file.seek(begin)
    head = file.read(4096)
    if head.startswith(_TAGS) or not any(head):
        return True
    name, length = struct.unpack("<4sI", head[:8])
    return all(32 <= byte < 127 for byte in name) and length <= size - begin - 8
