"""The command `build` in a process of its own, on a disk that fails at one call, or from one call on."""

import _io
import builtins
import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from shards.__main__ import main

CHANGES = ("write", "pwrite", "fsync", "rename", "replace", "link", "mkdir", "rmdir", "unlink", "ftruncate")
READING = ("pread", "preadv", "listdir", "scandir")
READS = (*READING, "read")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
REAL_OPEN = io.open


@dataclass(frozen=True)
class Fault:
    """Which call fails, from 1, and how; ``for_good``: later ones too."""

    at: int = 0
    code: int = errno.EIO
    for_good: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: Its exit code.
        told: What it wrote to stderr.
        calls: How many calls could have failed.
        failed: Those that did, such as "write spool/audio.s16".
    """

    code: int
    told: str
    calls: int
    failed: list[str]


class FailingBuildDisk:
    """All calls below a folder, also those of files that Python opens; counted, so that each can fail once."""

    def __init__(self, folder: Path, fault: Fault) -> None:
        self.folder, self.fault = str(folder), fault
        self.calls, self.failed, self._read = 0, list[str](), set[tuple[str, str]]()

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Meanwhile the folder is on this disk."""
        with ExitStack() as stack:
            for name in (*CHANGES, *READING):
                stack.enter_context(patch.object(os, name, self._call(name, getattr(os, name))))
            stack.enter_context(patch.object(os, "open", self._opening(os.open)))
            for module in (builtins, io, _io):
                stack.enter_context(patch.object(module, "open", self._open_file))
            yield

    def check(self, name: str, place: Any) -> None:
        """Raise OSError when it is this call's turn to fail, and the place is on this disk."""
        path = _path_of(place)
        if not (path + "/").startswith(self.folder + "/"):
            return
        if name in READS:  # of many reads of one file the first
            if (name, path) in self._read:
                return
            self._read.add((name, path))
        self.calls += 1
        at = self.fault.at
        if at and (self.calls >= at if self.fault.for_good else self.calls == at):
            self.failed.append(f"{name} {path.removeprefix(self.folder)}")
            raise OSError(self.fault.code, os.strerror(self.fault.code))

    def _call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if name in ("link", "rename", "replace"):
                place, folder = arguments[1], more.get("dst_dir_fd")
            else:
                place, folder = arguments[0] if arguments else ".", more.get("dir_fd")
            try:
                self.check(name, place if folder is None else os.path.join(_path_of(folder), place))
            except OSError as error:
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                if not isinstance(place, int):
                    error.filename = place
                raise
            return None if name == "fsync" else real(*arguments, **more)  # a real one only takes time

        return call

    def _opening(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
            folder = more.get("dir_fd")
            place = os.fspath(path) if folder is None else os.path.join(_path_of(folder), os.fspath(path))
            if not flags & os.O_DIRECTORY:
                self.check("open to write" if flags & WRITING else "open", place)
            return real(path, flags, *arguments, **more)

        return call

    def _open_file(self, file: Any, mode: str = "r", buffering: int = -1, *more: Any, **named: Any) -> Any:
        place = _path_of(file)
        if not (place + "/").startswith(self.folder + "/") or isinstance(file, int):
            return REAL_OPEN(file, mode, buffering, *more, **named)
        self.check("open to write" if set(mode) & set("wax+") else "open", file)
        raw = _FailingFile(self, place, mode.replace("b", "").replace("t", ""), opener=named.get("opener"))
        if buffering == 0:
            return raw
        kind = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
        return kind(raw) if "b" in mode else io.TextIOWrapper(kind(raw), encoding=named.get("encoding"))


class _FailingFile(io.FileIO):
    def __init__(self, disk: FailingBuildDisk, path: str, mode: str, opener: Any) -> None:
        super().__init__(path, mode, opener=opener)
        self._disk, self._place = disk, path

    def write(self, content: Any) -> int:
        try:
            self._disk.check("write", self._place)
        except OSError:
            super().write(memoryview(content).cast("B")[: len(content) // 2])
            raise
        return super().write(content)

    def readinto(self, out: Any) -> int:
        self._disk.check("read", self._place)
        return super().readinto(out)

    def readall(self) -> bytes:
        self._disk.check("read", self._place)
        return super().readall()

    def close(self) -> None:
        was_closed = self.closed
        super().close()
        if not was_closed and self.mode != "rb":  # NFS tells of a full disk here
            self._disk.check("close", self._place)


def _path_of(place: Any) -> str:
    if isinstance(place, int):
        with suppress(OSError):
            return os.readlink(f"/proc/self/fd/{place}")
        return ""
    return os.path.abspath(os.fsdecode(place))


def run_build(words: list[str], folder: Path, fault: Fault, log: Path) -> Outcome:
    """Run `python -m shards` with these words in a forked process. ``log`` is a folder on another disk."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            handle = os.open(log / "told", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            builtin = REAL_OPEN(2, "w", closefd=False, buffering=1)
            import sys

            sys.stderr = sys.stdout = builtin
            disk = FailingBuildDisk(folder, fault)
            try:
                with disk.mounted():
                    code = main(words)
            except BaseException:
                import traceback

                traceback.print_exc()
            builtin.flush()
            with REAL_OPEN(log / "calls", "w") as file:
                json.dump([disk.calls, disk.failed], file)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    calls, failed = json.loads((log / "calls").read_text())
    return Outcome(code, (log / "told").read_text(), calls, failed)


def fresh(folder: Path, origin: Path | None) -> None:
    """Empty a folder, or make it a copy of another."""
    shutil.rmtree(folder, ignore_errors=True)
    if origin:
        shutil.copytree(origin, folder)
