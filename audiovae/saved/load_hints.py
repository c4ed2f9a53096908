"""What to load instead of a model that is not there yet or damaged: a checkpoint of the same run."""

import json
import re
from pathlib import Path

from audiovae.saved.checksums import damaged_file
from shards.files import read_file

CHECKPOINTS = "checkpoints"
_NAME = re.compile(r"step-\d{8,}")
NEEDED = ("config.json", "model.safetensors")


def is_unfinished(folder: Path) -> bool:
    """Whether this is the folder of a run that has no model yet."""
    return (folder / CHECKPOINTS).is_dir() and not (folder / "model").is_dir()


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest sound checkpoint of the run that a folder is, or is part of, other than that folder itself."""
    places = [folder, folder.parent, folder.parent.parent]
    found = [path for place in places for path in (place / CHECKPOINTS).glob("step-*") if _NAME.fullmatch(path.name)]
    for path in sorted(found, key=lambda path: int(path.name[5:]), reverse=True):
        if path != folder and _is_sound(path):
            return path
    return None


def remedy(folder: Path) -> str:
    """What to do about a damaged model: name a checkpoint of its run, where there is one."""
    if checkpoint := newest_checkpoint(folder):
        return f"load {checkpoint} instead"
    return "take another copy of the model"


def _is_sound(checkpoint: Path) -> bool:
    try:
        about = json.loads(read_file(checkpoint / NEEDED[0], follow_links=True))
        there = all((checkpoint / name).is_file() for name in NEEDED)
        return there and damaged_file(checkpoint, about.get("sha256", {})) is None
    except (OSError, ValueError, AttributeError, TypeError):
        return False
