"""A process that makes no progress says where it stands and ends, instead of holding its GPUs for nothing."""

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from shards.files import create_file
from train.process.output_streams import call

LOOK_S = 1.0
# Should the interpreter itself be stuck, a timer without it ends the process this much later.
GRACE_S = 60.0
# A large model's passes compile for so long at most, each time one is met in a new form.
COMPILE_LIMIT_S = 3600.0


def watchdog_limit(wanted_s: float, compiles: bool) -> float:
    """Seconds without a heartbeat that mean a hang: as wanted, at least COMPILE_LIMIT_S where passes are compiled."""
    return max(wanted_s, COMPILE_LIMIT_S) if wanted_s and compiles else wanted_s


class Watchdog:
    """Ends the process when `heartbeat` has not been called for `limit_s` seconds; 0 means never.

    It first writes the stacks of all threads and what `describe` says to `file`. Use it as a context manager.

    Args:
        limit_s: Seconds without a heartbeat.
        file: Where to write.
        describe: What the process was doing, for people: it may take long or fail.
        last_words: Called with one line before the end.
    """

    def __init__(
        self, limit_s: float, file: Path, describe: Callable[[], str], last_words: Callable[[str], None]
    ) -> None:
        self._limit, self._file, self._describe, self._last_words = limit_s, file, describe, last_words
        self._paused = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.heartbeat()

    def heartbeat(self) -> None:
        """There was progress."""
        self._last = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around work of unknown length."""
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
        look = min(LOOK_S, self._limit / 4)
        armed = 0.0
        while not self._stop.wait(look):
            now = time.monotonic()
            if self._paused:
                self.heartbeat()
            if now - armed > self._limit / 4:  # not at each look: it starts a thread each time
                armed = now
                faulthandler.dump_traceback_later(self._limit + GRACE_S, exit=True)
            if now - self._last > self._limit:
                self._end()

    def _end(self) -> None:
        what = f"no progress for {self._limit:g} s; where each thread stood: {self._file}"
        try:
            with open(create_file(self._file), "w") as file:
                self._describe_in(file)
        except OSError as error:
            what = f"no progress for {self._limit:g} s; {self._file} cannot be written ({error.strerror})"
        try:
            self._last_words(what)
        finally:
            call(f"error: {what}")
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
            file.write(f"\nwhat was read cannot be told: {error}\n")
