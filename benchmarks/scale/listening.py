"""Runs `python -m train` in this process and writes down which files it opens: `listening.py FILE WORDS...`."""

import json
import os
import sys

# By absolute path: how often a file was opened for reading, and its bytes at these times added up.
opened: dict[str, list[int]] = {}


def hear(event: str, arguments: tuple) -> None:
    """Notes files opened for reading. Files that extensions open by themselves are not heard."""
    if event != "open":
        return
    path, _, flags = arguments
    if isinstance(path, str) and (flags or 0) & os.O_ACCMODE == os.O_RDONLY:
        name = os.path.abspath(path)
        entry = opened.setdefault(name, [0, 0])
        entry[0] += 1
        entry[1] += os.path.getsize(name) if os.path.isfile(name) else 0


def main(out: str, words: list[str]) -> None:
    """Trains, and writes what was opened whatever happens."""
    sys.addaudithook(hear)
    from train.__main__ import run  # its imports are heard too

    try:
        code = run(words)
    finally:
        with open(out, "w") as file:
            json.dump(opened, file)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
