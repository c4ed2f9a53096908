"""SHA-256 checksums of a model's files: `config.json` has those of the weight files by file name, and its own."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shards.files import canonical_json, sha256_of

MOST_FILES = 64
OWN = "checksum"  # key in `config.json`


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum of its other entries."""
    return {**content, OWN: own_checksum(content)}


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object is what was saved; one without a checksum, from an older version, counts as such."""
    return OWN not in content or content[OWN] == own_checksum(content)


def own_checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object without its checksum, whatever the order of its keys and its white space."""
    rest = {key: value for key, value in content.items() if key != OWN}
    return hashlib.sha256(canonical_json(rest)).hexdigest()


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
