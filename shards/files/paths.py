"""Places in the file system: real folders and regular files, opened relative to an open folder."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISREG, "a file"),
)


class UnsafePathError(OSError):
    """Something else lies where a regular file or a real folder has to be; as text one line with the remedy."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def _unsafe(path: Path, mode: int, wanted: str) -> UnsafePathError:
    found = next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")
    return UnsafePathError(errno.EINVAL, f"it is {found}, not {wanted}; remove it", str(path))


def check_place(path: Path, folder: int | None = None) -> None:
    """Raise UnsafePathError when there is something else than a regular file; ``folder`` is the open parent."""
    _check(path, folder, stat.S_ISREG, "a regular file")


def check_folder(path: Path, folder: int | None = None) -> None:
    """Raise UnsafePathError when there is something else than a real folder; ``folder`` is the open parent."""
    _check(path, folder, stat.S_ISDIR, "a real folder")


def _check(path: Path, folder: int | None, is_kind: Callable[[int], bool], wanted: str) -> None:
    try:
        mode = os.stat(path if folder is None else path.name, dir_fd=folder, follow_symlinks=False).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not is_kind(mode):
        raise _unsafe(path, mode, wanted)


@contextmanager
def open_folder(folder: Path, inside: Path | None = None, make: bool = False) -> Iterator[int]:
    """Open a folder by way of real folders below ``inside``, which are made on request; yields its handle."""
    here = folder if inside is None else inside
    handle = os.open(here, _FOLDER)
    try:
        for part in folder.relative_to(here).parts:
            here = here / part
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
            try:
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            except OSError:
                check_folder(here, handle)
                raise
            close(handle)
            handle = inner
        yield handle
    finally:
        close(handle)


def make_folder(folder: Path, inside: Path | None = None) -> None:
    """Make a folder where it is missing, with its parents; below ``inside`` all are real folders. Raises OSError."""
    (inside or folder).mkdir(parents=True, exist_ok=True)
    with naming_errors(folder), open_folder(folder, inside, make=True):
        pass


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder with its parents; those that were missing go again when the work inside fails."""
    missing = []
    with suppress(OSError):
        missing = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):
                place.rmdir()
        raise


def open_regular(path: Path, flags: int = os.O_RDONLY, folder: int | None = None, follow_links: bool = False) -> int:
    """Open a regular file and return its handle; a pipe is refused and never waited for.

    Args:
        path: The file.
        flags: The flags of ``os.open``.
        folder: The open parent, or None: by the path.
        follow_links: Whether it may be reached by a link.

    Raises:
        UnsafePathError: when it is something else.
        OSError: when it cannot be opened.
    """
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    try:
        handle = os.open(path if folder is None else path.name, flags, 0o666, dir_fd=folder)
    except OSError:
        if not follow_links:
            check_place(path, folder)
        raise
    try:
        if not stat.S_ISREG(mode := os.fstat(handle).st_mode):
            raise _unsafe(path, mode, "a regular file")
    except BaseException:
        os.close(handle)
        raise
    return handle


def read_file(path: Path, start: int = 0, follow_links: bool = False, limit: int | None = None) -> bytes:
    """Read a regular file from byte ``start`` on. Raises OSError, also when that is more than ``limit`` bytes."""
    with open(open_regular(path, follow_links=follow_links), "rb") as file:
        if limit is not None and os.fstat(file.fileno()).st_size - start > limit:
            raise too_large(path, limit)
        file.seek(start)
        content = file.read(-1 if limit is None else limit + 1)
    if limit is not None and len(content) > limit:  # it has grown, or lies about its size
        raise too_large(path, limit)
    return content


def too_large(path: Path, limit: int) -> OSError:
    """The error for a file of more than ``limit`` bytes."""
    return OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))


def read_start(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of a regular file, or all where it has fewer; links are followed. Raises OSError."""
    with open(open_regular(path, follow_links=True), "rb") as file:
        return file.read(count)


def sha256_of(path: Path) -> str:
    """64 hexadecimal digits; the file is read in pieces. Raises OSError."""
    with open(open_regular(path, follow_links=True), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Errors of the system name the file that people know."""
    try:
        yield
    except UnsafePathError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def close(handle: int) -> None:
    """Close a handle of which all is read or synced."""
    with suppress(OSError):  # an error here says nothing about what is on the disk
        os.close(handle)
