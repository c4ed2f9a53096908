"""The little of the Ogg container (RFC 3533) that libsndfile leaves to its callers."""

import os
from pathlib import Path
from typing import BinaryIO

HEADER = 27  # bytes of a page before its table of segment sizes
MAX_PAGE = HEADER + 255 + 255 * 255
_FIRST_PAGE = b"OggS\0\2"
_PIECE = 1 << 22  # bytes read at once


def ends_whole(path: str | Path) -> bool:
    """Whether the last page is complete: libsndfile reads a cut file to its last whole page, silently."""
    with open(os.fsencode(path), "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 2 * MAX_PAGE, 0))
        tail = file.read()
    start = tail.rfind(b"OggS")
    return start >= 0 and len(tail) - start > HEADER and len(tail) - start >= _page_bytes(tail, start)


def streams(path: str | Path) -> list[tuple[int, int]]:
    """The first byte, and the one behind the last, of each of the streams that follow each other. Raises OSError.

    A first page that comes after other pages begins a new stream; libsndfile reads the first stream only. Streams
    beside each other, such as sound and pictures, have their first pages together and count as one.
    """
    begins = []
    with open(os.fsencode(path), "rb") as file:
        size = file.seek(0, 2)
        begin: int | None = 0
        while begin is not None:
            begins.append(begin)
            place = begin
            file.seek(place)
            while len(page := file.read(MAX_PAGE)) > HEADER and page.startswith(_FIRST_PAGE):
                place += _page_bytes(page, 0)
                file.seek(place)
            begin = _find(file, max(place, begin + 1))
    return list(zip(begins, [*begins[1:], size], strict=True))


def _find(file: BinaryIO, place: int) -> int | None:
    """Where the next first page begins from a place on."""
    file.seek(place)
    rest = b""
    while piece := file.read(_PIECE):
        found = (rest + piece).find(_FIRST_PAGE)
        if found >= 0:
            return place - len(rest) + found
        place += len(piece)
        rest = piece[1 - len(_FIRST_PAGE) :]
    return None


def with_serial(data: bytes, serial: int) -> bytes:
    """The same stream under a given serial number: encoders draw it from the clock."""
    result, start = bytearray(data), 0
    while start < len(result):
        end = start + _page_bytes(result, start)
        result[start + 14 : start + 18] = serial.to_bytes(4, "little")
        result[start + 22 : start + 26] = bytes(4)
        result[start + 22 : start + 26] = _checksum(result[start:end]).to_bytes(4, "little")
        start = end
    return bytes(result)


def _page_bytes(data: bytes | bytearray, start: int) -> int:
    table = start + HEADER
    segments = data[start + 26]
    return HEADER + segments + sum(data[table : table + segments])


def _crc_row(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)
    return crc & 0xFFFFFFFF


_CRC = [_crc_row(byte) for byte in range(256)]


def _checksum(page: bytes | bytearray) -> int:
    crc = 0
    for byte in page:
        crc = ((crc << 8) & 0xFFFFFFFF) ^ _CRC[(crc >> 24) ^ byte]
    return crc
