"""Whether the weight files of a model are those that were saved: SHA-256 by file name, kept in its `config.json`."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path


def hashes_of(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 by name, 64 hexadecimal digits; files are read in pieces. Raises OSError."""
    return {file.name: _hash(file) for file in sorted(files)}


def damaged_file(folder: Path, wanted: Mapping[str, str]) -> Path | None:
    """The first file in a folder that is not what its hash says; files that are not there count as sound.

    Raises:
        OSError: when a file cannot be read.
    """
    for name, digest in wanted.items():
        file = folder / Path(name).name
        if file.is_file() and _hash(file) != digest:
            return file
    return None


def _hash(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
