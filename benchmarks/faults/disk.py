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
    """A folder on a disk of its own where that can be had.

    Attributes:
        folder: Where to write.
        why_not: Why it cannot be filled; empty when it can.
    """

    def __init__(self, folder: Path, why_not: str) -> None:
        self.folder, self.why_not = folder, why_not

    def fill(self) -> None:
        """Leaves no page free. Others write meanwhile, so until a page at a time finds no room."""
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
        """Makes the room again."""
        (self.folder / BALLAST).unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """A tmpfs mounted on a new folder, or the folder as it is where mounting is not allowed."""
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
