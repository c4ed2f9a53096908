"""Files to write: looked at before the work that fills them, then written whole or not at all."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import soundfile
from safetensors import SafetensorError

from audiovae.errors import ModelError


def check_output(path: str | Path) -> None:
    """Raises ModelError when a file cannot be written there; makes nothing."""
    path = Path(path)
    try:
        if path.is_dir():
            raise ModelError(f"{path}: cannot be written (it is a folder)")
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror})") from None
    if not nearest.is_dir():
        raise ModelError(f"{path}: cannot be written ({nearest} is not a folder)")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ModelError(f"{path}: cannot be written ({nearest} may not be written to)")


def share(folder: Path) -> None:
    """Gives the files in a new folder its own permissions: safetensors writes files that only their owner may read."""
    for file in folder.iterdir():
        file.chmod(folder.stat().st_mode & 0o666)


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Lets `write` write a file aside and puts it in place; the folder is made when missing.

    Raises:
        ModelError: when it cannot be written; then nothing is left of it.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.touch()
        mode = aside.stat().st_mode
        write(aside)
        aside.chmod(mode)
        aside.replace(path)
    except (soundfile.LibsndfileError, SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be written ({error})") from None
    finally:
        with suppress(OSError):  # nothing was begun, or the folder may not be entered
            aside.unlink()


def write_together(folder: str | Path, write: Callable[[Path], object], last: str, stale: Sequence[Path] = ()) -> None:
    """Lets `write` write files into a folder aside and moves them all into `folder`, which is made when missing.

    Args:
        folder: Where the files go; others that are there stay.
        write: Fills a folder.
        last: The file without which the rest is of no use. It is moved last, and an earlier one that says something
            else is taken away first: so whoever is killed in between leaves no mixture of old and new.
        stale: Files that the new ones make wrong; they go.

    Raises:
        ModelError: when it cannot be written; then the folder is as it was, and gone when it was not there.
    """
    folder = Path(folder)
    missing = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    aside = folder / f".{os.getpid()}.tmp"
    try:
        aside.mkdir(parents=True)
        write(aside)
        share(aside)
        if (folder / last).is_file() and (folder / last).read_bytes() != (aside / last).read_bytes():
            (folder / last).unlink()
        for file in stale:
            file.unlink(missing_ok=True)
        for file in sorted(aside.iterdir(), key=lambda file: file.name == last):
            file.replace(folder / file.name)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{folder}: cannot be written ({getattr(error, 'strerror', None) or error})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for place in missing:
            with suppress(OSError):  # not empty: it was written
                place.rmdir()
