"""The manifest of a data folder, or of the URL of one."""

from pathlib import Path

from shards.manifest import FILE_NAME, Manifest
from shards.reading.remote.failures import cleaned
from shards.reading.remote.records import is_url, read_manifest


def load_manifest(data_dir: str | Path) -> tuple[Manifest, str]:
    """The manifest of a folder or a URL, and what people call the place: a URL without password and signature.

    Raises DataError naming what is wrong.
    """
    if not is_url(data_dir):
        return Manifest.load(data_dir), str(data_dir)
    where = cleaned(str(data_dir))
    return Manifest.parse(read_manifest(str(data_dir)), f"{where}/{FILE_NAME}"), where
