"""A small disk that can be filled."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOM = "256m"
BALLAST = "ballast"


class Disk:
    """A folder, on its own small disk if possible.

    Attributes:
        folder: Where to write.
        why_not: Why it cannot be filled; empty if it can.
    """

    def __init__(self, folder: Path, why_not: str) -> None:
        self.folder, self.why_not = folder, why_not

    def fill(self) -> None:
        """Fills the disk until not a single page is free; other processes may write at the same time."""
        size = 2**26
        with open(self.folder / BALLAST, "wb") as file:
            while size >= os.sysconf("SC_PAGE_SIZE"):
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def free(self) -> None:
        """Frees the space again."""
        (self.folder / BALLAST).unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mounts a tmpfs on a new folder, or yields the plain folder if mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        why_not = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    except OSError as error:
        why_not = f"mount: {error.strerror}"
    try:
        yield Disk(folder, why_not)
    finally:
        if not why_not:
            with suppress(OSError):
                subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
