"""The little of the Ogg container (RFC 3533) that libsndfile leaves to its callers."""

import os
import zlib
from pathlib import Path
from typing import BinaryIO

HEADER = 27  # bytes of a page before its table of segment sizes
MAX_PAGE = HEADER + 255 + 255 * 255
_PAGE = b"OggS\0"
_FIRST_PAGE = _PAGE + b"\2"
_SERIAL, _NUMBER = slice(14, 18), slice(18, 22)  # of the stream that a page belongs to, and of the page in it
_CRC_FIELD = slice(22, 26)
_ANY_NUMBER = 1 << 32  # beyond the numbers of pages
_NO_POSITION = 1 << 63  # and above: no packet ends on the page
_PIECE = 1 << 22  # bytes read at once
_MOST_HEADERS, _MOST_LOOKED_AT = 1000, 20  # pages


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


def announced_seconds(path: str | Path, span: tuple[int, int], rate: int) -> float | None:
    """The length of a stream of Vorbis or Opus by the position in its last sound page; None when that is not known.

    Decoders pass over damaged pages in silence. It is not known of streams that were recorded in the middle of a
    broadcast, whose positions do not begin at 0. Raises OSError.

    Args:
        path: The file.
        span: The first byte of the stream, and the one behind the last.
        rate: Of the samples, in Hz.
    """
    with open(os.fsencode(path), "rb") as file:
        file.seek(span[0])
        head = file.read(min(_PIECE, span[1] - span[0]))
        file.seek(max(span[0], span[1] - 2 * MAX_PAGE))
        tail = file.read(span[1] - file.tell())
    ident, first, last = _page(head, 0), _first_with_sound(head), _last_page(tail)
    if not (ident and first and last) or last[_SERIAL] != ident[_SERIAL]:
        return None
    packet, body = _body(ident), _body(first)
    ends = sum(size < 255 for size in first[HEADER : HEADER + first[26]])
    if packet[:8] == b"OpusHead":
        rate, skipped, longest = 48_000, int.from_bytes(packet[10:12], "little"), _opus_samples(body)
    elif packet[:7] == b"\1vorbis" and len(packet) > 28:
        skipped, longest = 0, (1 << (packet[28] >> 4)) // 2
    else:
        return None
    if _position(first) > ends * longest:
        return None
    return max(0, _position(last) - skipped) / rate


def damaged_pages(path: str | Path, span: tuple[int, int]) -> int:
    """The number of places in a stream at which pages are damaged or missing. Raises OSError.

    Decoders pass over them in silence. An incomplete last page and what else may lie behind the pages do not count.
    """
    count, numbers = 0, dict[bytes, int]()  # the number of the last page of each stream
    gap = begun = False  # bytes that are no page; a page among them was begun
    with open(os.fsencode(path), "rb") as file:
        file.seek(span[0])
        data, place, left = b"", 0, span[1] - span[0]
        while True:
            if len(data) - place < MAX_PAGE and left:
                piece = file.read(min(_PIECE, left))
                data, place, left = data[place:] + piece, 0, left - len(piece) if piece else 0
            if place >= len(data):
                return count + begun
            if page := _page(data, place):
                number, before = int.from_bytes(page[_NUMBER], "little"), numbers.get(page[_SERIAL])
                count += bool(numbers) and (gap or (before is not None and number > before + 1))
                # Where a broadcast was joined, a gap follows the pages of the headers, whose position is 0.
                numbers[page[_SERIAL]] = number if _position(page) else _ANY_NUMBER
                gap = begun = False
                place += len(page)
                continue
            gap = True
            begun |= _is_complete(data, place)
            following = data.find(_PAGE, place + 1)
            place = following if following >= 0 else max(place + 1, len(data) - len(_PAGE) + 1)


def _is_complete(data: bytes, start: int) -> bool:
    """Whether a page, damaged or not, begins at a place and ends within the data."""
    known = data.startswith(_PAGE, start) and len(data) - start > HEADER
    return known and start + _page_bytes(data, start) <= len(data)


def _page(data: bytes, start: int) -> bytes:
    """The undamaged page that begins at a place; empty when there is none."""
    if data[start : start + len(_PAGE)] != _PAGE or len(data) - start <= HEADER:
        return b""
    page = data[start : start + _page_bytes(data, start)]
    stored = _checksum(page[: _CRC_FIELD.start] + bytes(4) + page[_CRC_FIELD.stop :]).to_bytes(4, "little")
    return page if stored == page[_CRC_FIELD] else b""


def _first_with_sound(head: bytes) -> bytes:
    """The first page on which a packet of sound ends, sound or not; those of the headers have the position 0."""
    place = 0
    for _ in range(_MOST_HEADERS):
        page = head[place : place + HEADER]
        if len(page) < HEADER or not page.startswith(_PAGE):
            return b""
        if 0 < _position(page) < _NO_POSITION:
            return head[place : place + _page_bytes(head, place)]
        place += _page_bytes(head, place)
    return b""


def _last_page(tail: bytes) -> bytes:
    """The last undamaged page on which a packet ends."""
    place = len(tail)
    for _ in range(_MOST_LOOKED_AT):
        place = tail.rfind(_PAGE, 0, place)
        if place < 0:
            return b""
        page = _page(tail, place)
        if page and _position(page) < _NO_POSITION:
            return page
    return b""


def _position(page: bytes) -> int:
    return int.from_bytes(page[6:14], "little")


def _body(page: bytes) -> bytes:
    return page[HEADER + page[26] :]


def _opus_samples(packet: bytes) -> int:
    """Samples at 48 kHz of an Opus packet (RFC 6716, section 3.1)."""
    if not packet:
        return 0
    config, code = packet[0] >> 3, packet[0] & 3
    sizes = (480, 960, 1920, 2880) if config < 12 else (480, 960) * 2 if config < 16 else (120, 240, 480, 960)
    return sizes[config % 4] * (packet[1] & 63 if code == 3 and len(packet) > 1 else (1, 2, 2, 1)[code])


def has_orphans(path: str | Path, spans: list[tuple[int, int]]) -> bool:
    """Whether there are pages of a stream whose first page is damaged or missing. Raises OSError.

    libsndfile ends before them. They have another serial number; or their stream has the same number, and there are
    more pages than the last one counts. Where streams lie beside each other, nothing is said.

    Args:
        path: The file.
        spans: Its streams, as `streams` gives them.
    """
    with open(os.fsencode(path), "rb") as file:
        return any(_has_orphans(file, begin, end) for begin, end in spans)


def _has_orphans(file: BinaryIO, begin: int, end: int) -> bool:
    file.seek(begin)
    first = file.read(MAX_PAGE)
    behind = _page_bytes(first, 0) if len(first) > HEADER else 0
    if not first.startswith(_FIRST_PAGE) or first[behind:].startswith(_FIRST_PAGE):
        return False
    file.seek(max(begin, end - 2 * MAX_PAGE))
    tail = file.read(end - file.tell())
    last = tail.rfind(_PAGE, 0, max(0, len(tail) - HEADER))
    if last < 0:
        return False
    page = tail[last : last + HEADER]
    return page[_SERIAL] != first[_SERIAL] or _count(file, begin, end) > int.from_bytes(page[_NUMBER], "little") + 1


def _count(file: BinaryIO, begin: int, end: int) -> int:
    """The number of pages that begin between two places."""
    count, rest = 0, b""
    file.seek(begin)
    while piece := file.read(min(_PIECE, end - begin)):
        begin += len(piece)
        count += (rest + piece).count(_PAGE)
        rest = piece[1 - len(_PAGE) :]
    return count


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


# The checksum is that of zlib with the bits of each byte, and of the result, in the other order, and without the
# inversions at the beginning and the end.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _checksum(page: bytes | bytearray) -> int:
    mirrored = zlib.crc32(bytes(page).translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")
