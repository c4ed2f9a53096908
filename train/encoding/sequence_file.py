"""The sequence of a finished recording as a file, until all recordings are finished.

It holds the xxh3-128 of what follows, the key of what was encoded by what, and the numbers as int16, frame after frame.
"""

from pathlib import Path

import numpy as np
import xxhash

from shards.files import read_file, write_atomically

DIGITS = 32  # of the checksum, and of the key


def write_sequence(path: Path, key: str, numbers: np.ndarray) -> None:
    """Writes a sequence, int16 [frames, rows], whole or not at all. Raises OSError."""
    content = key.encode() + numbers.astype("<i2").tobytes()
    write_atomically(path, xxhash.xxh3_128_hexdigest(content).encode() + content)


def read_sequence(path: Path, key: str, rows: int) -> np.ndarray | None:
    """The sequence, int16 [frames, rows]; None if the file is missing or damaged, or has another key."""
    try:
        content = read_file(path)
    except OSError:
        return None
    checksum, rest = content[:DIGITS], content[DIGITS:]
    if checksum != xxhash.xxh3_128_hexdigest(rest).encode() or rest[:DIGITS] != key.encode():
        return None
    return np.frombuffer(rest[DIGITS:], "<i2").reshape(-1, rows)
