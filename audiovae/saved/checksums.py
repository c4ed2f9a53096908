"""SHA-256 checksums of a model's weight files, stored in its `config.json` by file name."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from shards.files import sha256_of


def hashes_of(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each file by its name, as 64 hexadecimal digits. Raises OSError."""
    return {file.name: sha256_of(file) for file in sorted(files)}


def damaged_file(folder: Path, wanted: Mapping[str, str]) -> Path | None:
    """The first file in a folder whose SHA-256 differs from the wanted one, or None. Missing files are skipped.

    Raises:
        OSError: if a file cannot be read.
    """
    for name, digest in wanted.items():
        file = folder / Path(name).name
        if file.is_file() and sha256_of(file) != digest:
            return file
    return None
