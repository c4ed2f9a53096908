"""What decoders leave out of WAV files and other containers of chunks: data beyond a size in the header."""

import os
import struct
from pathlib import Path
from typing import BinaryIO

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


def _is_known(file: BinaryIO, begin: int, size: int) -> bool:
    """Whether a chunk, a tag or nothing but zeros begins at a place behind the data."""
    file.seek(begin)
    head = file.read(4096)
    if head.startswith(_TAGS) or not any(head):
        return True
    name, length = struct.unpack("<4sI", head[:8])
    return all(32 <= byte < 127 for byte in name) and length <= size - begin - 8


def second_file(path: str | Path) -> int | None:
    """The byte at which another file of the same kind begins behind the first; None when there is none.

    Decoders read the first of joined WAV, RF64, AIFF, AU, CAF and MP4 files only, in silence. Raises OSError.
    """
    with open(os.fsencode(path), "rb") as file:
        head = file.read(32)
        kind = (head[:4], head[8:12])
        end = None
        if kind == (b"RIFF", b"WAVE"):
            end = 8 + int.from_bytes(head[4:8], "little")
        elif kind == (b"RF64", b"WAVE") and head[12:16] == b"ds64":
            end = 8 + int.from_bytes(head[20:28], "little")
        elif head[:4] == b"FORM" and head[8:11] == b"AIF":
            end = 8 + int.from_bytes(head[4:8], "big")
        elif head[:4] == b".snd":
            end = sum(struct.unpack(">II", head[4:12])) if len(head) >= 12 else None
        elif head[:4] == b"caff":
            return _repeated(file, 8, b"caff", 4, ">4sq", 12)
        elif head[4:8] == b"ftyp":
            return _repeated(file, 0, b"ftyp", 8, ">I4s", 0)
        if end is None:
            return None
        file.seek(end + end % 2)
        return end + end % 2 if file.read(4) == head[:4] else None


def _repeated(file: BinaryIO, begin: int, mark: bytes, marked: int, layout: str, extra: int) -> int | None:
    """Where a mark comes again, walking over chunks from a place on.

    Args:
        file: The file.
        begin: Of the first chunk.
        mark: The mark.
        marked: Bytes from the beginning of a chunk to the end of the mark.
        layout: Of a chunk's header, name and size in any order.
        extra: Bytes of a chunk that its size does not count.
    """
    place = begin
    end = file.seek(0, 2)
    for number in range(_MOST_CHUNKS):
        if place >= end:  # a size that is wrong may lead anywhere
            return None
        file.seek(place)
        head = file.read(16)
        if len(head) < 16:
            return None
        if number and head[marked - 4 : marked] == mark:
            return place
        size = next(value for value in struct.unpack_from(layout, head) if isinstance(value, int))
        if size == 1 and layout == ">I4s":  # a size of 64 bits follows
            size = int.from_bytes(head[8:16], "big")
        if size + extra < 8:  # to the end of the file, or nonsense
            return None
        place += size + extra
    return None
