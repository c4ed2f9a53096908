"""Files to read: what is the matter with those that cannot be."""

from pathlib import Path

from audiovae.errors import ModelError
from shards.files import nothing_to_read


def check_input(path: str | Path, kind: str) -> None:
    """Raises ModelError when there is nothing to read at a path; `kind` says as what: "audio" or "latents"."""
    if why := nothing_to_read(path):
        raise ModelError(f"{path}: cannot be read as {kind} ({why})")
