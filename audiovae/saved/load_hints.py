"""Hints for a model that is missing or damaged: which checkpoint of its run to load instead."""

import re
from pathlib import Path

from audiovae.saved.checksums import damaged_file
from shards.files import is_sealed, read_object

CHECKPOINTS = "checkpoints"
_NAME = re.compile(r"step-\d{8,}")
NEEDED = ("config.json", "model.safetensors")


def is_unfinished(folder: Path) -> bool:
    """Whether a folder is a run that has not written its model yet."""
    return (folder / CHECKPOINTS).is_dir() and not (folder / "model").is_dir()


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest intact checkpoint of the run that a folder is or belongs to, except that folder itself."""
    places = [folder, folder.parent, folder.parent.parent]
    found = [path for place in places for path in (place / CHECKPOINTS).glob("step-*") if _NAME.fullmatch(path.name)]
    for path in sorted(found, key=lambda path: int(path.name[5:]), reverse=True):
        if path != folder and _is_intact(path):
            return path
    return None


def remedy(folder: Path) -> str:
    """The remedy for a damaged model: load a checkpoint of its run if there is one, else copy the model again."""
    if checkpoint := newest_checkpoint(folder):
        return f"load {checkpoint} instead"
    return "copy the model again"


def _is_intact(checkpoint: Path) -> bool:
    try:
        about = read_object(checkpoint / NEEDED[0], follow_links=True)
        there = all((checkpoint / name).is_file() for name in NEEDED)
        return there and is_sealed(about) and damaged_file(checkpoint, about.get("sha256", {})) is None
    except (OSError, ValueError, AttributeError, TypeError):
        return False
