"""The little of the Ogg container (RFC 3533) that libsndfile leaves to its callers."""

from pathlib import Path

HEADER = 27  # bytes of a page before its table of segment sizes
MAX_PAGE = HEADER + 255 + 255 * 255


def ends_whole(path: str | Path) -> bool:
    """Whether the last page is complete: libsndfile reads a cut file to its last whole page, silently."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 2 * MAX_PAGE, 0))
        tail = file.read()
    start = tail.rfind(b"OggS")
    return start >= 0 and len(tail) - start > HEADER and len(tail) - start >= _page_bytes(tail, start)


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
