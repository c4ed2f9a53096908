"""What the three command lines share: the folder for data and runs, the console, the JSON file of results."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.machine import facts
from shards.files import write_atomically

BUILD = Path("build")
# Columns of a table that is not printed to a terminal.
WIDTH = 170


@contextmanager
def work_folder(named: Path | None, prefix: str) -> Iterator[Path]:
    """A folder for data and runs: the named one, which is kept, or a temporary one under build/."""
    if named is not None:
        named.mkdir(parents=True, exist_ok=True)
        yield named
        return
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=BUILD, ignore_cleanup_errors=True) as name:
        yield Path(name)


def make_console() -> Console:
    """A console as wide as the terminal, or WIDTH columns wide without one."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def wrote(path: Path | None, content: dict[str, Any]) -> bool:
    """Writes results to a file, if there is one to write; prints an error and returns False if that fails."""
    try:
        if path is not None:
            write_results(path, content)
    except OSError as error:
        print(f"error: --json {path}: {error.strerror or error}", file=sys.stderr)
        return False
    return True


def write_results(path: Path, content: dict[str, Any]) -> None:
    """Writes results as JSON, with facts about the machine as `machine`."""
    write_atomically(path, json.dumps({"machine": facts()} | content, indent=1) + "\n")
