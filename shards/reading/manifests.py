"""The manifest of a data folder, or of the URL of one.

The remote modules, which import many others, are imported only where there is a URL.
"""

from pathlib import Path

from shards.manifest import FILE_NAME, Manifest


def is_url(place: object) -> bool:
    """Whether a data folder is given as a URL."""
    return "://" in str(place)


def load_manifest(data_dir: str | Path) -> tuple[Manifest, str]:
    """The manifest of a folder or a URL, and what people call the place: a URL without password and signature.

    Raises DataError naming what is wrong.
    """
    if not is_url(data_dir):
        return Manifest.load(data_dir), str(data_dir)
    from shards.reading.remote.failures import cleaned
    from shards.reading.remote.records import read_manifest

    where = cleaned(str(data_dir))
    return Manifest.parse(read_manifest(str(data_dir)), f"{where}/{FILE_NAME}"), where
