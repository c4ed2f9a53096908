"""The manifest of a data folder, or of the URL of one.

The remote modules, which import many others, are imported only where there is a URL.
"""

from pathlib import Path

from shards.errors import DataError
from shards.files import read_file
from shards.manifest import FILE_NAME, Manifest

TAIL = 256  # bytes at the end of a manifest, with its fingerprint


def is_url(place: object) -> bool:
    """Whether a data folder is given as a URL."""
    return "://" in str(place)


def load_manifest(data_dir: str | Path) -> tuple[Manifest, str]:
    """The manifest of a folder or a URL, and what people call the place: a URL without password and signature.

    Raises DataError naming what is wrong.
    """
    return parse_manifest(read_content(data_dir), data_dir), shown(data_dir)


def read_content(data_dir: str | Path) -> bytes:
    """The bytes of the manifest of a folder or a URL. Raises DataError when they cannot be read."""
    if not is_url(data_dir):
        return Manifest.read(data_dir)
    from shards.reading.remote.records import read_manifest

    return read_manifest(str(data_dir))


def parse_manifest(content: bytes, data_dir: str | Path) -> Manifest:
    """The manifest of a folder or a URL from its bytes. Raises DataError naming what is wrong."""
    return Manifest.parse(content, f"{shown(data_dir)}/{FILE_NAME}" if is_url(data_dir) else Path(data_dir) / FILE_NAME)


def shown(data_dir: str | Path) -> str:
    """What people call the place of a data folder: a URL without password and signature."""
    if not is_url(data_dir):
        return str(data_dir)
    from shards.reading.remote.failures import cleaned

    return cleaned(str(data_dir))


def differs_here(content: bytes, data_dir: str | Path) -> bool:
    """Whether this node sees another manifest in a folder than the one of these bytes.

    It compares size and last bytes, where the fingerprint of all splits is: a large manifest need not be read again.
    A URL is the same from everywhere. Raises DataError when the file cannot be read.
    """
    if is_url(data_dir):
        return False
    path = Path(data_dir) / FILE_NAME
    try:
        size = path.stat().st_size
        return size != len(content) or read_file(path, max(0, size - TAIL), True) != content[-TAIL:]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
