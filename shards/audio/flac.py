"""The little of FLAC (RFC 9639) that libsndfile leaves to its callers: samples beyond the number in the header."""

import os
from pathlib import Path

_TAIL = 1 << 18  # bytes at the end in which the last frame begins
_SYNC = (b"\xff\xf8", b"\xff\xf9")  # fixed and variable block size
_BLOCKS = {
    1: 192,
    **{code: 576 << (code - 2) for code in range(2, 6)},
    **{code: 256 << (code - 8) for code in range(8, 16)},
}
# Bytes behind a frame's number that hold the block size and the rate, by their codes.
_SIZE_BYTES, _RATE_BYTES = {6: 1, 7: 2}, {12: 1, 13: 2, 14: 2}


def has_more_samples(path: str | Path) -> bool:
    """Whether a FLAC file goes on behind the number of samples that its header names. Raises OSError.

    A number of 0 stands for unknown.
    """
    with open(os.fsencode(path), "rb") as file:
        head = file.read(42)
        if head[:4] != b"fLaC" or len(head) < 42:
            return False
        block = int.from_bytes(head[8:10], "big")
        total = int.from_bytes(head[21:26], "big") & 0xFFFFFFFFF
        size = file.seek(0, 2)
        file.seek(max(42, size - _TAIL))
        tail = file.read()
    return 0 < total < _end_of_last_frame(tail, block)


def _end_of_last_frame(tail: bytes, block: int) -> int:
    """The number of samples up to the end of the last frame that begins in `tail`; 0 when there is none."""
    place = len(tail)
    while (place := max(tail.rfind(sync, 0, place) for sync in _SYNC)) >= 0:
        if end := _frame_end(tail, place, block):
            return end
    return 0


def _frame_end(data: bytes, place: int, block: int) -> int:
    """Samples up to the end of the frame whose header begins at `place`; 0 when none begins there."""
    if place + 6 > len(data):
        return 0
    variable = data[place + 1] & 1
    size_code, rate_code = data[place + 2] >> 4, data[place + 2] & 15
    number, used = _coded_number(data[place + 4 : place + 11])
    more = _SIZE_BYTES.get(size_code, 0)
    end = place + 4 + used + more + _RATE_BYTES.get(rate_code, 0)
    if not used or size_code == 0 or rate_code == 15 or end >= len(data) or _crc8(data[place:end]) != data[end]:
        return 0
    begin = place + 4 + used
    samples = int.from_bytes(data[begin : begin + more], "big") + 1 if more else _BLOCKS[size_code]
    return (number if variable else number * block) + samples


def _coded_number(data: bytes) -> tuple[int, int]:
    """A number coded as in UTF-8 but up to 36 bits, and its bytes; (0, 0) when it is none."""
    first = data[0] if data else 0xFF
    if first < 0x80:
        return first, 1
    extra = next((count for count in range(1, 7) if not first & (0x40 >> (count - 1))), 0) if first >= 0xC0 else 0
    rest = data[1 : 1 + extra]
    if not extra or len(rest) < extra or any(byte & 0xC0 != 0x80 for byte in rest):
        return 0, 0
    number = first & (0x3F >> extra)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, 1 + extra


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
