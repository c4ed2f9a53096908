"""SHA-256 checksums of a model's weight files, stored in its `config.json` by file name."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path


def hashes_of(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each file by its name, as 64 hexadecimal digits. Raises OSError."""
    return {file.name: _hash(file) for file in sorted(files)}


def damaged_file(folder: Path, wanted: Mapping[str, str]) -> Path | None:
    """The first file in a folder whose SHA-256 differs from the wanted one, or None. Missing files are skipped.

    Raises:
        OSError: if a file cannot be read.
    """
    for name, digest in wanted.items():
        file = folder / Path(name).name
        if file.is_file() and _hash(file) != digest:
            return file
    return None


def _hash(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
