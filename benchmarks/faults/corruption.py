"""Damages files of a checkpoint."""

from pathlib import Path

from train.runs.checkpoint import all_checkpoints


def cut(checkpoints: Path, where: float, fraction: float) -> str:
    """Truncates a file of the newest checkpoint; returns a description."""
    file = _choose(checkpoints, where)
    size = file.stat().st_size
    with open(file, "r+b") as content:
        content.truncate(int(size * fraction))
    return f"{file.parent.name}/{file.name} cut to {int(size * fraction)} of {size} bytes"


def flip(checkpoints: Path, where: float, fraction: float) -> str:
    """Flips a bit in a file of the newest checkpoint; returns a description."""
    file = _choose(checkpoints, where)
    bit = int(file.stat().st_size * 8 * fraction)
    with open(file, "r+b") as content:
        content.seek(bit // 8)
        byte = content.read(1)[0]
        content.seek(bit // 8)
        content.write(bytes([byte ^ 1 << bit % 8]))
    return f"{file.parent.name}/{file.name}: bit {bit} flipped"


def _choose(checkpoints: Path, where: float) -> Path:
    files = sorted(path for path in all_checkpoints(checkpoints)[0].iterdir() if path.stat().st_size)
    return files[int(where * len(files))]
