"""SHA-256 checksums of a model's weight files, which `config.json` has by file name."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from shards.files import sha256_of

MOST_FILES = 64


def hashes_of(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each file by its name, as 64 hexadecimal digits. Raises OSError."""
    return {file.name: sha256_of(file) for file in sorted(files)}


def damaged_file(folder: Path, wanted: Mapping[str, str], largest: int | None = None) -> Path | None:
    """The first file in a folder whose SHA-256 differs from the wanted one, or None. Missing files are skipped.

    Args:
        folder: The folder.
        wanted: SHA-256 by file name.
        largest: The most bytes that a sound file can have; larger ones are not read.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if more files are listed than a model has.
    """
    if len(wanted) > MOST_FILES:
        raise ValueError(f"{len(wanted)} weight files are listed: at most {MOST_FILES}")
    for name, digest in wanted.items():
        file = folder / Path(name).name
        if file.is_file() and ((largest and file.stat().st_size > largest) or sha256_of(file) != digest):
            return file
    return None
