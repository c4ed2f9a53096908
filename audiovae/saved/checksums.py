"""Whether the weight files of a model are those that were saved: SHA-256 by file name, kept in its `config.json`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from shards.files import sha256_of


def hashes_of(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 by name, 64 hexadecimal digits. Raises OSError."""
    return {file.name: sha256_of(file) for file in sorted(files)}


def damaged_file(folder: Path, wanted: Mapping[str, str]) -> Path | None:
    """The first file in a folder that is not what its hash says; files that are not there count as sound.

    Raises:
        OSError: when a file cannot be read.
    """
    for name, digest in wanted.items():
        file = folder / Path(name).name
        if file.is_file() and sha256_of(file) != digest:
            return file
    return None
