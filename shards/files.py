"""Files of runs, models and data sets: written whole or not at all, and never through a link.

The standard library alone, and little of it: the decision to requeue uses this in the last seconds of a job.

A folder may come from a stranger. So everything is written relative to an open folder, under a name that cannot be
guessed, and put in place by a rename. ``inside`` is the outermost folder of a call, which may be reached through
links; a link, pipe, device or folder below it, where a file or a real folder has to be, raises UnsafePathError.
Without ``inside`` that is the folder that holds the file.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ASIDE = re.compile(r"\.[0-9a-f]{16}\.tmp")
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
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
            _close(handle)
            handle = inner
        yield handle
    finally:
        _close(handle)


def make_folder(folder: Path, inside: Path | None = None) -> None:
    """Make a folder where it is missing, with its parents; below ``inside`` all are real folders. Raises OSError."""
    (inside or folder).mkdir(parents=True, exist_ok=True)
    with _naming(folder), open_folder(folder, inside, make=True):
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
        flags: Of ``os.open``.
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


def read_file(path: Path, start: int = 0, follow_links: bool = False) -> bytes:
    """Read a regular file from byte ``start`` on. Raises OSError."""
    with open(open_regular(path, follow_links=follow_links), "rb") as file:
        file.seek(start)
        return file.read()


def sha256_of(path: Path) -> str:
    """64 hexadecimal digits; the file is read in pieces. Raises OSError."""
    with open(open_regular(path, follow_links=True), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: str | bytes, inside: Path | None = None) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Raises:
        UnsafePathError: when something else than a regular file is there, or no real folder is on the way.
        OSError: with the file's name, which writing alone would not tell: a full disk.
    """
    aside = _name_aside()
    with _naming(path), open_folder(path.parent, inside) as folder:
        check_place(path, folder)
        try:
            handle = os.open(aside, _NEW, 0o666, dir_fd=folder)
            try:
                _write(handle, content.encode() if isinstance(content, str) else content)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(aside, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(aside, dir_fd=folder)
            raise
        _sync_folder(folder)


def create_file(path: Path, inside: Path | None = None) -> int:
    """Make an empty file in the place of an earlier one and return its handle, for writing. Raises OSError."""
    with _naming(path), open_folder(path.parent, inside) as folder:
        check_place(path, folder)
        with suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=folder)
        return os.open(path.name, _NEW, 0o666, dir_fd=folder)


def remove_file(path: Path, inside: Path | None = None) -> None:
    """Remove a file, or a link itself, where there is one. Raises OSError, UnsafePathError for a folder."""
    with suppress(FileNotFoundError), _naming(path), open_folder(path.parent, inside) as folder:
        try:
            os.unlink(path.name, dir_fd=folder)
        except (IsADirectoryError, PermissionError):
            check_place(path, folder)
            raise


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers of files left in a folder; only for a process that writes there alone."""
    with suppress(FileNotFoundError), open_folder(folder) as handle:
        for name in os.listdir(handle):
            if _ASIDE.fullmatch(name):
                with suppress(OSError):
                    os.unlink(name, dir_fd=handle)


def append_line(path: Path, content: dict[str, Any], inside: Path | None = None) -> None:
    """Add one JSON line in one write and make it durable; a line that was cut short stays a line of its own.

    Raises:
        UnsafePathError: as ``write_atomically``; also for a file that has a second name, where another one would grow.
        OSError: with the file's name; then the line is not there.
    """
    line = json.dumps(content).encode() + b"\n"
    with _naming(path), open_folder(path.parent, inside) as folder:
        handle = open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, folder)
        try:
            about = os.fstat(handle)
            if about.st_nlink > 1:
                raise UnsafePathError(errno.EINVAL, "it is a hard link; put a copy in its place", str(path))
            if about.st_size and os.pread(handle, 1, about.st_size - 1) != b"\n":
                line = b"\n" + line
            try:
                _write(handle, line)
                os.fsync(handle)
            except OSError:
                if os.fstat(handle).st_size <= about.st_size + len(line):  # nobody else has added to it
                    os.ftruncate(handle, about.st_size)
                raise
        finally:
            _close(handle)


def read_lines(path: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines, only those of one event if given; none where there is no file.

    Raises:
        UnsafePathError: when it is no regular file.
        OSError: when it cannot be read.
    """
    try:
        rows = parse_lines(read_file(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [row for row in rows if event is None or row.get("event") == event]


def parse_lines(content: bytes) -> list[dict[str, Any]]:
    """The JSON objects of lines; a damaged line is passed over."""
    rows = []
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # bytes that are not UTF-8 too
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def write_folder(final: Path, fill: Callable[[Path], object], inside: Path | None = None) -> None:
    """Make a folder that is whole or not there: filled under another name, synced, renamed; by one process at a time.

    Args:
        final: The folder; an earlier one goes when the new one is in its place.
        fill: Writes files into the folder that it is given.
        inside: See the module.

    Raises:
        OSError: when it cannot be written; an earlier folder then stays as it was. What ``fill`` raises likewise.
    """
    with open_folder(final.parent, inside) as parent:
        check_folder(final, parent)
        leftover = re.compile(re.escape(final.name) + r"(\.[0-9a-f]{16})?\.tmp")
        for name in filter(leftover.fullmatch, os.listdir(parent)):  # of a process that was killed
            shutil.rmtree(name, ignore_errors=True, dir_fd=parent)
        name = final.name + _name_aside()
        os.mkdir(name, dir_fd=parent)
        try:
            fill(final.with_name(name))
            with open_folder(final.with_name(name), final.parent) as filled:
                _share_and_sync(filled)
            earlier = _replace_folder(name, final.name, parent)
        except BaseException:
            shutil.rmtree(name, ignore_errors=True, dir_fd=parent)
            raise
        try:
            _sync_folder(parent)
        finally:
            shutil.rmtree(earlier, ignore_errors=True, dir_fd=parent)


def _replace_folder(name: str, final: str, parent: int) -> str:
    """Rename a folder; returns where an earlier one is now, which comes back when the rename fails."""
    earlier = final + _name_aside()
    with suppress(FileNotFoundError):
        os.rename(final, earlier, src_dir_fd=parent, dst_dir_fd=parent)
    try:
        os.rename(name, final, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with suppress(FileNotFoundError):
            os.rename(earlier, final, src_dir_fd=parent, dst_dir_fd=parent)
        raise
    return earlier


def write_into_folder(folder: Path, fill: Callable[[Path], object], last: str, stale: Sequence[str] = ()) -> None:
    """Let ``fill`` write files into a folder aside, and move them all into ``folder``.

    Args:
        folder: Where the files go, made when missing; others that are there stay.
        fill: Writes files into the folder that it is given.
        last: The file without which the rest is of no use. It is moved last, and an earlier one of another content is
            removed first: a process that is killed in between leaves no mixture of old and new.
        stale: Names of files that the new ones make wrong; they are removed.

    Raises:
        OSError: when it cannot be written; then the folder is as it was, and gone when it was missing. What ``fill``
            raises likewise.
    """
    with made_folder(folder), open_folder(folder) as handle:
        aside = _name_aside()
        os.mkdir(aside, dir_fd=handle)
        try:
            fill(folder / aside)
            with open_folder(folder / aside, folder) as filled:
                _share_and_sync(filled)
                names = sorted(os.listdir(filled), key=lambda name: (name == last, name))
                for name in {*names, *stale}:
                    check_place(folder / name, handle)
                if _content_of(last, handle) != _content_of(last, filled):
                    remove_file(folder / last)
                for name in stale:
                    remove_file(folder / name)
                for name in names:
                    os.replace(name, name, src_dir_fd=filled, dst_dir_fd=handle)
        finally:
            shutil.rmtree(aside, ignore_errors=True, dir_fd=handle)
        _sync_folder(handle)


def sync(path: Path) -> None:
    """Make a file's content, or the renames in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def why_unreadable(path: str | Path, error: Exception) -> str:
    """Why reading ``path`` raised ``error``, in a few words and without the path."""
    text = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
    return nothing_to_read(path) or " ".join(text.split()).removeprefix("Error : ").rstrip(".")


def nothing_to_read(path: str | Path) -> str:
    """What is there instead of a readable file with content: "it is a folder"; empty for such a file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if path.is_dir():
            return "it is a folder"
        if path.is_file() and not size:
            return "it is empty: 0 bytes"
        return "" if os.access(path, os.R_OK) else "it may not be read"
    except FileNotFoundError:
        return "it is a link to a file that does not exist" if path.is_symlink() else "it does not exist"
    except OSError as error:
        return error.strerror or "it cannot be looked at"
    except ValueError:  # a name that no file can have
        return "it does not exist"


def why_unwritable(error: Exception) -> str:
    """Why writing raised ``error``, in a few words: "No space left on device"; names no temporary file."""
    if isinstance(error, FileExistsError):  # in the place of a folder
        return os.strerror(errno.ENOTDIR)
    if reason := getattr(error, "strerror", None):
        return str(reason)
    found = _SYSTEM_ERROR.search(str(error))  # of safetensors
    return os.strerror(int(found[1])) if found else str(error).splitlines()[0]


def _name_aside() -> str:
    return f".{os.urandom(8).hex()}.tmp"


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the system name the file that people know."""
    try:
        yield
    except UnsafePathError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _close(handle: int) -> None:
    with suppress(OSError):  # all is read or synced already: an error here says nothing about it
        os.close(handle)


def _write(handle: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(handle, left) :]


def _share_and_sync(folder: int) -> None:
    """Make the files of a new folder durable and as readable as the folder: safetensors lets only the owner read."""
    mode = os.fstat(folder).st_mode & 0o666
    for name in os.listdir(folder):
        handle = open_regular(Path(name), folder=folder)
        try:
            os.fchmod(handle, mode)
            os.fsync(handle)
        finally:
            os.close(handle)
    _sync_folder(folder)


def _sync_folder(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that sync no folders
            raise


def _content_of(name: str, folder: int) -> bytes | None:
    try:
        with open(open_regular(Path(name), folder=folder), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
