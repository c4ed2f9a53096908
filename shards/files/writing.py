"""Files and folders that are written whole or not at all."""

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from shards.files.paths import check_folder, check_place, made_folder, naming_errors, open_folder, open_regular

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ASIDE = re.compile(r"\.[0-9a-f]{16}\.tmp")


def write_atomically(path: Path, content: str | bytes | Iterable[bytes], inside: Path | None = None) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Text is written as UTF-8; of what that cannot hold, such as half of a surrogate pair, the number is written. Content
    that is made while it is written comes in pieces; when making it fails, the file stays as it was.

    Raises:
        UnsafePathError: when something else than a regular file is there, or no real folder is on the way.
        OSError: with the file's name, which writing alone would not tell: a full disk.
    """
    aside = _name_aside()
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    with naming_errors(path), open_folder(path.parent, inside) as folder:
        check_place(path, folder)
        try:
            handle = os.open(aside, _NEW, 0o666, dir_fd=folder)
            try:
                for piece in [content] if isinstance(content, bytes) else content:
                    write_all(handle, piece)
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
    with naming_errors(path), open_folder(path.parent, inside) as folder:
        check_place(path, folder)
        with suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=folder)
        return os.open(path.name, _NEW, 0o666, dir_fd=folder)


def remove_file(path: Path, inside: Path | None = None) -> None:
    """Remove a file, or a link itself, where there is one. Raises OSError, UnsafePathError for a folder."""
    with suppress(FileNotFoundError), naming_errors(path), open_folder(path.parent, inside) as folder:
        try:
            os.unlink(path.name, dir_fd=folder)
        except (IsADirectoryError, PermissionError):
            check_place(path, folder)
            raise


def is_leftover(name: str) -> bool:
    """Whether a file's name is one that a killed writer leaves behind."""
    return bool(_ASIDE.fullmatch(name))


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers of files left in a folder; only for a process that writes there alone."""
    with suppress(FileNotFoundError), open_folder(folder) as handle:
        for name in os.listdir(handle):
            if is_leftover(name):
                with suppress(OSError):
                    os.unlink(name, dir_fd=handle)


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


def write_all(handle: int, content: bytes) -> None:
    """Write in one call, or in more where the system takes less at a time."""
    left = memoryview(content)
    while left:
        left = left[os.write(handle, left) :]


def _name_aside() -> str:
    return f".{os.urandom(8).hex()}.tmp"


def _share_and_sync(folder: int) -> None:
    """Make the files of a new folder durable and as readable as the folder: safetensors lets only the owner read.

    Folders in it, of which a copy of a model is one, are treated likewise.
    """
    mode = os.fstat(folder).st_mode & 0o666
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                _share_and_sync(inner)
            finally:
                os.close(inner)
            continue
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
