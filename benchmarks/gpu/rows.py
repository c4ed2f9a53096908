"""What a part found, row by row, in a file that is whole after each row."""

import gc
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from shards.files import write_atomically

LONGEST_NOTE = 400  # characters


@dataclass(frozen=True)
class Row:
    """One measured value.

    Attributes:
        name: What was measured.
        value: The value; None if it could not be measured.
        unit: Its unit.
        goal: What it should be, in words; empty if nothing is wanted.
        ok: Whether it is so; None without a goal or a value.
        note: More about it, or why it could not be measured.
    """

    name: str
    value: float | None
    unit: str = ""
    goal: str = ""
    ok: bool | None = None
    note: str = ""


class Notes:
    """The rows of one part. Each call of `add` rewrites the file, so a part that is killed keeps its rows."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self._end = time.monotonic() + seconds
        self.rows: list[Row] = []

    def left(self) -> float:
        """Seconds that the part still has."""
        return self._end - time.monotonic()

    def add(
        self,
        name: str,
        value: float | None,
        unit: str = "",
        at_most: float | None = None,
        at_least: float | None = None,
        note: str = "",
    ) -> None:
        """Adds a row; `at_most` or `at_least` is its goal."""
        goal, ok = "", None
        if at_most is not None:
            goal, ok = f"at most {at_most:g}", None if value is None else value <= at_most
        if at_least is not None:
            goal, ok = f"at least {at_least:g}", None if value is None else value >= at_least
        self.rows.append(Row(name, value, unit, goal, ok, " ".join(note.split())[:LONGEST_NOTE]))
        write_atomically(self._path, json.dumps([asdict(row) for row in self.rows]) + "\n")

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Wraps one measurement: an error becomes a row of that name, and the next measurement goes on."""
        try:
            yield
        except Exception as error:
            self.add(name, None, note=f"failed: {type(error).__name__}: {error}")
            del error
        finally:
            release_memory()


def release_memory() -> None:
    """Gives memory of the device back that nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
