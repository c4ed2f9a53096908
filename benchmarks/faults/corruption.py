"""Damages files."""

from collections.abc import Sequence
from pathlib import Path


def cut(files: Sequence[Path], where: float, fraction: float) -> str:
    """Truncates one of the files; returns a description."""
    file = files[int(where * len(files))]
    size = file.stat().st_size
    with open(file, "r+b") as content:
        content.truncate(int(size * fraction))
    return f"{file.parent.name}/{file.name} cut to {int(size * fraction)} of {size} bytes"


def flip(files: Sequence[Path], where: float, fraction: float) -> str:
    """Flips a bit in one of the files; returns a description."""
    file = files[int(where * len(files))]
    bit = int(file.stat().st_size * 8 * fraction)
    with open(file, "r+b") as content:
        content.seek(bit // 8)
        byte = content.read(1)[0]
        content.seek(bit // 8)
        content.write(bytes([byte ^ 1 << bit % 8]))
    return f"{file.parent.name}/{file.name}: bit {bit} flipped"
