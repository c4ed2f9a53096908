"""Checks of input files: why a file cannot be read."""

from pathlib import Path

from audiovae.errors import ModelError
from shards.files import nothing_to_read


def check_input(path: str | Path, kind: str) -> None:
    """Raises ModelError if a file cannot be read; `kind` is "audio" or "latents", for the message."""
    if why := nothing_to_read(path):
        raise ModelError(f"{path}: cannot be read as {kind} ({why})")
