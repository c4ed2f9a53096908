"""Writing to a terminal or pipe that may have been closed."""

import os
from contextlib import suppress
from typing import Any, TextIO


class BestEffortStream:
    """A stream that drops text when it cannot write, such as to a closed pipe, instead of raising."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text, or drops it; returns its length."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream if possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def write_stderr(text: str) -> None:
    """Writes a line to stderr without buffering; safe in a signal handler."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())
