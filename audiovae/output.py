"""Files to write: looked at before the work that fills them, then written whole or not at all."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from audiovae.errors import ModelError

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


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


def check_apart(output: str | Path, *inputs: str | Path) -> None:
    """Raises ModelError when the file to write is one of those to read, by whatever name or link."""
    for source in inputs:
        with suppress(OSError, ValueError):  # one of them is not there
            if os.path.samefile(output, source):
                raise ModelError(f"{output}: the output is the input {source} itself; name another output")


def share(folder: Path) -> None:
    """Gives the files in a new folder its own permissions: safetensors writes files that only their owner may read."""
    for file in folder.iterdir():
        file.chmod(folder.stat().st_mode & 0o666)


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes a file aside and puts it in place; the folder is made when missing.

    The content is made in memory, since libraries that write files themselves do not tell that the disk is full.

    Raises:
        ModelError: when it cannot be written; then nothing is left of it.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    missing = _missing(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({why_unwritable(error)})") from None
    finally:
        with suppress(OSError):  # nothing was begun, or the folder may not be entered
            aside.unlink()
        _remove_empty(missing)


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
    missing = _missing(folder)
    aside = folder / f".{os.getpid()}.tmp"
    try:
        if folder.is_file():
            raise ModelError(f"{folder}: cannot be written (it is a file, not a folder)")
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
        raise ModelError(f"{folder}: cannot be written ({why_unwritable(error)})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        _remove_empty(missing)


def _missing(folder: Path) -> list[Path]:
    """The folders that are to be made for this one, the innermost first."""
    with suppress(OSError):
        return [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    return []


def _remove_empty(made: list[Path]) -> None:
    for place in made:
        with suppress(OSError):  # not empty: it was written
            place.rmdir()


def why_unwritable(error: Exception) -> str:
    """Why writing raised `error`, in a few words: "No space left on device"; names no temporary file."""
    if isinstance(error, FileExistsError):  # in the place of a folder
        return os.strerror(errno.ENOTDIR)
    if reason := getattr(error, "strerror", None):
        return str(reason)
    found = _SYSTEM_ERROR.search(str(error))  # of safetensors
    return os.strerror(int(found[1])) if found else str(error).splitlines()[0]
