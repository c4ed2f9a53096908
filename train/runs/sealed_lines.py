"""Files of JSON lines in which each line has a checksum, so that a damaged line is found and never used.

Lines without a checksum, of older versions, are accepted. Needs only the standard library and `shards.files`, because
the decision to requeue uses it.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

from shards.files import append_line, canonical_json, open_regular, parse_lines, read_file, read_lines
from shards.files.lines import LARGEST_FILE
from shards.files.paths import naming_errors

CHECKSUM = "crc32"


def append_sealed(path: Path, content: dict[str, Any]) -> None:
    """Adds a line with its checksum and makes it durable. A second try after an error does not leave the line twice.

    Raises:
        UnsafePathError, OSError: as `shards.files.append_line`.
    """
    sealed = with_checksum(content)
    _remove_from_end(path, json.dumps(sealed).encode() + b"\n")
    append_line(path, sealed)


def with_checksum(content: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with its checksum, as a line holds it."""
    return {**content, CHECKSUM: checksum_of(content)}


def read_sealed(path: Path) -> list[dict[str, Any]]:
    """The intact lines of a file, without their checksums; none where there is no file.

    Raises:
        UnsafePathError, OSError: as `shards.files.read_lines`.
    """
    return [row for line in read_lines(path) if (row := _opened(line)) is not None]


def parse_sealed(content: bytes) -> list[dict[str, Any]]:
    """The intact lines of some content, without their checksums. Raises OSError as `shards.files.parse_lines`."""
    return [row for line in parse_lines(content) if (row := _opened(line)) is not None]


def damaged_lines(path: Path) -> int:
    """The number of lines that are damaged; a last line without its end does not count, as a crash leaves such a line.

    Raises:
        UnsafePathError, OSError: when the file cannot be read, or is larger than `shards.files` reads.
    """
    try:
        content = read_file(path, limit=LARGEST_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    whole = content[: content.rfind(b"\n") + 1]
    return sum(map(bool, map(bytes.strip, whole.split(b"\n")))) - len(parse_sealed(whole))


def checksum_of(content: dict[str, Any]) -> str:
    """CRC-32 of a JSON object as 8 hexadecimal digits, whatever the order of its keys and its white space."""
    return f"{zlib.crc32(canonical_json(content)):08x}"


def _opened(line: dict[str, Any]) -> dict[str, Any] | None:
    """The content of a line, or None when its checksum does not match."""
    if CHECKSUM not in line:
        return line
    content = {key: value for key, value in line.items() if key != CHECKSUM}
    return content if line[CHECKSUM] == checksum_of(content) else None


def _remove_from_end(path: Path, line: bytes) -> None:
    """Cuts off this line if the file ends with it: an earlier try could not make it durable, nor cut it off."""
    try:
        handle = open_regular(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        with naming_errors(path):
            start = os.fstat(handle).st_size - len(line)
            if start >= 0 and os.pread(handle, len(line), start) == line:
                os.ftruncate(handle, start)
    finally:
        os.close(handle)
