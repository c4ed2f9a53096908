"""A disk that fails at one call, in this process: a full disk, an I/O error, a failing sync or rename."""

import builtins
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import audiovae.saved.model_folder
from train.runs import checkpoint

CALLS = ("write", "fsync", "rename", "replace", "mkdir", "fchmod", "ftruncate", "unlink", "rmdir")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class FailingDisk:
    """Counts the calls that change a disk, and fails at one of them, or at that one and all later ones.

    Attributes:
        at: The number of the call that fails, from 1; 0 for none.
        code: The error number.
        for_good: Whether later calls fail too.
        calls: How many there were.
        failed: Names of the calls that failed.
    """

    def __init__(self, at: int = 0, code: int = errno.EIO, for_good: bool = False) -> None:
        self.at, self.code, self.for_good = at, code, for_good
        self.calls, self.failed = 0, list[str]()

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Meanwhile all files of this process are on this disk."""
        with (
            patch.multiple(os, open=self._opening(os.open), **{name: self._call(name) for name in CALLS}),
            patch.object(Path, "write_bytes", self._writing(Path.write_bytes)),
            patch.object(Path, "write_text", self._writing(Path.write_text)),
            patch.object(checkpoint, "save_file", self._saving(checkpoint.save_file)),
            patch.object(audiovae.saved.model_folder, "save_file", self._saving(checkpoint.save_file)),
        ):
            yield

    def _fails(self, name: str) -> bool:
        self.calls += 1
        fails = self.at > 0 and (self.calls >= self.at if self.for_good else self.calls == self.at)
        if fails:
            self.failed.append(name)
        return fails

    def _error(self) -> OSError:
        return OSError(self.code, os.strerror(self.code))

    def _call(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **more: Any) -> Any:
            if self._fails(name):
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise self._error()
            return None if name == "fsync" else real(*arguments, **more)  # a real one only takes time

        return call

    def _opening(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
            if flags & WRITING and self._fails("open"):
                raise self._error()
            return real(path, flags, *arguments, **more)

        return call

    def _writing(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Path, content: Any, *arguments: Any, **more: Any) -> int:
            if self._fails("write"):
                real(path, content[: len(content) // 2], *arguments, **more)
                raise self._error()
            return real(path, content, *arguments, **more)

        return call

    def _saving(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(tensors: Any, file: Path) -> None:
            real(tensors, file)
            if self._fails("write"):
                with builtins.open(file, "r+b") as half:
                    half.truncate(Path(file).stat().st_size // 2)
                raise self._error()

        return call


def every_fault(act: Callable[[FailingDisk], None], for_good: bool = True) -> Iterator[FailingDisk]:
    """Calls `act` with a disk for every fault at each of its calls; yields the disk after each.

    Args:
        act: Does everything anew, some of it on the mounted disk.
        for_good: Whether disks that never recover are among them.
    """
    act(whole := FailingDisk())
    assert whole.calls
    for code in (errno.EIO, errno.ENOSPC):
        for lasting in (False, True) if for_good else (False,):
            for at in range(1, whole.calls + 1):
                act(disk := FailingDisk(at, code, lasting))
                assert disk.failed, at
                yield disk
