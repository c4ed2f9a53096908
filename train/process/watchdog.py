"""Ends a process that makes no progress and writes down the stacks of its threads, so that its GPUs become free."""

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from shards.files import create_file
from train.process.output_streams import write_stderr

CHECK_EVERY_S = 1.0
# If the interpreter itself is stuck, a timer of faulthandler ends the process this many seconds later.
GRACE_S = 60.0
# The longest time that torch.compile may take for a large model, each time it meets new shapes.
COMPILE_LIMIT_S = 3600.0


def watchdog_limit(configured_s: float, compiles: bool) -> float:
    """Seconds without a heartbeat that count as a hang: `configured_s`, but at least COMPILE_LIMIT_S with compiling."""
    return max(configured_s, COMPILE_LIMIT_S) if configured_s and compiles else configured_s


class Watchdog:
    """Ends the process with exit code 1 when `heartbeat` has not been called for `limit_s` seconds.

    Before that it writes the stacks of all threads and the text of `describe` to `file`. Use it as a context manager.

    Args:
        limit_s: Seconds without a heartbeat; 0 means no limit.
        file: The file for the stacks.
        describe: Returns what the process was doing; it may take long or fail.
        on_end: Called with a one-line message before the process ends.
    """

    def __init__(self, limit_s: float, file: Path, describe: Callable[[], str], on_end: Callable[[str], None]) -> None:
        self._limit, self._file, self._describe, self._on_end = limit_s, file, describe, on_end
        self._paused = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.heartbeat()

    def heartbeat(self) -> None:
        """Records progress."""
        self._last = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Suspends the limit during work of unknown length."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1
            self.heartbeat()

    def __enter__(self) -> "Watchdog":
        if self._limit:
            self.heartbeat()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._limit:
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        interval = min(CHECK_EVERY_S, self._limit / 4)
        armed = 0.0
        while not self._stop.wait(interval):
            now = time.monotonic()
            if self._paused:
                self.heartbeat()
            if now - armed > self._limit / 4:  # not at each check, as each call starts a thread
                armed = now
                faulthandler.dump_traceback_later(self._limit + GRACE_S, exit=True)
            if now - self._last > self._limit:
                self._end()

    def _end(self) -> None:
        message = f"no progress for {self._limit:g} s; stacks of all threads: {self._file}"
        try:
            with open(create_file(self._file), "w") as file:
                self._describe_in(file)
        except OSError as error:
            message = f"no progress for {self._limit:g} s; {self._file} cannot be written ({error.strerror})"
        try:
            self._on_end(message)
        finally:
            write_stderr(f"error: {message}")
            os._exit(1)

    def _describe_in(self, file: TextIO) -> None:
        file.write(f"{time.ctime()}: no progress for {self._limit:g} s\n\n")
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)
        file.flush()
        os.fsync(file.fileno())
        try:
            file.write(f"\n{self._describe()}\n")
        except Exception as error:
            file.write(f"\nno description of the work: {error}\n")
