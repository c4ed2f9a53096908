"""Files of JSON lines, to which lines are added."""

import errno
import json
import os
from pathlib import Path
from typing import Any

from shards.files.paths import UnsafePathError, close, naming_errors, open_folder, open_regular, read_file
from shards.files.writing import write_all


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

    Raises:
        UnsafePathError: when it is no regular file.
        OSError: when it cannot be read.
    """
    try:
        rows = parse_lines(read_file(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [row for row in rows if event is None or row.get("event") == event]


def parse_lines(content: bytes) -> list[dict[str, Any]]:
    """The JSON objects of lines; a damaged line is passed over."""
    rows = []
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # bytes that are not UTF-8 too
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
