"""Files to write: looked at before the work that fills them, then written whole or not at all."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from audiovae.errors import ModelError
from shards.files import UnsafePathError, check_place, made_folder, why_unwritable, write_atomically, write_into_folder


def check_output(path: str | Path) -> None:
    """Raises ModelError when a file cannot be written there; makes nothing."""
    path = Path(path)
    with model_errors(path):
        if path.is_dir():
            raise ModelError(f"{path}: cannot be written (it is a folder)")
        check_place(path)
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
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


def write_whole(path: str | Path, content: bytes | Iterable[bytes]) -> None:
    """Writes a file whole or not at all; the folder is made when missing.

    The content is made in memory, or in pieces while it is written, since libraries that write files themselves do not
    tell that the disk is full.

    Raises:
        ModelError: when it cannot be written; then nothing is left of it.
    """
    path = Path(path)
    with model_errors(path), made_folder(path.parent):
        write_atomically(path, content)


def write_together(folder: str | Path, write: Callable[[Path], object], last: str, stale: Sequence[str] = ()) -> None:
    """`write_into_folder` of `shards.files`.

    Raises:
        ModelError: when it cannot be written; then the folder is as it was, and gone when it was not there.
    """
    folder = Path(folder)
    with model_errors(folder):
        if folder.is_file():
            raise ModelError(f"{folder}: cannot be written (it is a file, not a folder)")
        write_into_folder(folder, write, last, stale)


@contextmanager
def model_errors(path: Path, what: str = "cannot be written") -> Iterator[None]:
    """Turns errors of the system into ModelError: one line that names `path`, or the link that lies in the way."""
    try:
        yield
    except UnsafePathError as error:
        raise ModelError(str(error)) from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: {what} ({why_unwritable(error)})") from None
