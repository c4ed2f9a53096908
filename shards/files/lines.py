"""Files of JSON lines, to which lines are added."""

import errno
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from shards.files.json_files import MIB, JSONError, parse_json
from shards.files.paths import UnsafePathError, close, naming_errors, open_folder, open_regular, too_large
from shards.files.writing import write_all

LARGEST_FILE = 1024 * MIB
LONGEST_LINE = MIB
MOST_LINES = 4_000_000


def append_line(path: Path, content: dict[str, Any], inside: Path | None = None) -> None:
    """Add one JSON line in one write and make it durable; a line that was cut short stays a line of its own.

    Raises:
        UnsafePathError: as ``write_atomically``; also for a file that has a second name, where another one would grow.
        OSError: with the file's name; then the line is not there.
    """
    line = json.dumps(content).encode() + b"\n"
    with naming_errors(path), open_folder(path.parent, inside) as folder:
        handle = open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, folder)
        try:
            about = os.fstat(handle)
            if about.st_nlink > 1:
                raise UnsafePathError(errno.EINVAL, "it is a hard link; put a copy in its place", str(path))
            if about.st_size and os.pread(handle, 1, about.st_size - 1) != b"\n":
                line = b"\n" + line
            try:
                write_all(handle, line)
                os.fsync(handle)
            except OSError:
                if os.fstat(handle).st_size <= about.st_size + len(line):  # nobody else has added to it
                    os.ftruncate(handle, about.st_size)
                raise
        finally:
            close(handle)


def read_lines(path: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines, only those of one event if given; none where there is no file.

    A line that is damaged, longer than ``LONGEST_LINE`` bytes or no object is passed over.

    Raises:
        UnsafePathError: when it is no regular file.
        OSError: when it cannot be read, has more than ``LARGEST_FILE`` bytes or ``MOST_LINES`` lines.
    """
    try:
        with open(open_regular(path), "rb") as file:
            if os.fstat(file.fileno()).st_size > LARGEST_FILE:
                raise too_large(path, LARGEST_FILE)
            rows = _objects(file, path)
            return [row for row in rows if event is None or row.get("event") == event]
    except (FileNotFoundError, NotADirectoryError):
        return []


def parse_lines(content: bytes) -> list[dict[str, Any]]:
    """The JSON objects of lines; a line is passed over as in ``read_lines``. Raises OSError for too many."""
    return list(_objects(io.BytesIO(content), Path("lines")))


def _objects(file: BinaryIO, path: Path) -> Iterator[dict[str, Any]]:
    lines = 0
    while line := file.readline(LONGEST_LINE + 1):
        lines += 1
        if lines > MOST_LINES:
            raise OSError(errno.EFBIG, f"it has more than {MOST_LINES:,} lines", str(path))
        if len(line) > LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
            continue
        try:
            row = parse_json(line)
        except JSONError:
            continue
        if isinstance(row, dict):
            yield row
