"""Writing to a terminal or pipe that may be gone."""

import os
from contextlib import suppress
from typing import Any, TextIO


class BestEffortStream:
    """A stream whose reader may go away: what cannot be written is lost, and nothing ends for it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def call(text: str) -> None:
    """A line on stderr from a signal handler."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())
