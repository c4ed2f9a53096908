"""Where a run's folder is, and whether it was moved or copied since its last attempt.

A copy (`cp -r`) holds the id of its original. Two folders that train under one id would write into one W&B run, and
each would take the other's points for its own.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from shards.files import is_text, read_file
from train.errors import TrainError
from train.runs.record import LIMIT, RECORD_FILE, Record, is_inode

NOT_YOURS = "choose another --run-dir, or ask the owner of this one for access"
Relocated = Literal["ask", "moved", "copied"]


@dataclass(frozen=True)
class Place:
    """A folder as one attempt found it.

    Attributes:
        path: Its path without links.
        inode: Its inode: a folder that is moved within a file system keeps it, and a copy has another one.
        parent: The inode of the folder that holds it.
    """

    path: str
    inode: int
    parent: int

    @classmethod
    def of(cls, folder: Path) -> "Place":
        """The place of an existing folder."""
        path = Path(os.path.realpath(folder))
        return cls(str(path), path.stat().st_ino, path.parent.stat().st_ino)

    def to_json(self) -> dict[str, Any]:
        """The entry of run.json."""
        return asdict(self)


def place_of(record: Record) -> Place | None:
    """The place in a record; None where it is not known. Versions that recorded none have the path of --run-dir."""
    content = record.place
    path, inode, parent = content.get("path"), content.get("inode"), content.get("parent")
    if is_text(path) and is_inode(inode) and is_inode(parent):
        return Place(path, inode, parent)
    given = record.config.get("run_dir")
    return Place(given, 0, 0) if is_text(given) and os.path.isabs(given) else None


def is_moved(record: Record, folder: Path, relocated: Relocated) -> bool | None:
    """Whether the folder of a run was moved; None when it is where it was, False when it is a copy.

    It was moved for certain if it kept its inode, or if its place of before is there without it. In a batch job it
    counts as moved if the run is not found where it was. Nothing else can be told apart: the user has to say it.

    Raises:
        TrainError: when the user has to say it and `relocated` is "ask".
    """
    before, here = place_of(record), Place.of(folder)
    if before is None or os.path.realpath(before.path) == here.path:
        return None
    try:
        original = _holds(Path(before.path), record.run_id)
        # One folder with two paths. Not `samefile`: where it is mounted twice, the mounts have numbers of their own.
        if original and os.stat(before.path).st_ino == here.inode:
            return None
        gone = not original and os.stat(Path(before.path).parent).st_ino == before.parent
    except (OSError, ValueError):
        original = gone = False
    # Before the flag: a requeued job repeats it, maybe on a node where the same folder has another path.
    if not original and before.inode == here.inode:
        return True
    if relocated != "ask":
        return relocated == "moved"
    if gone:
        return True
    # Nobody can answer a job that is requeued; scripts that work on a node's disk have another path in each job.
    if not original and "SLURM_JOB_ID" in os.environ:
        return True
    there = "is still there" if original else "is not there, or cannot be looked at from here"
    raise TrainError(
        f"{folder}: this run was in {before.path}, which {there}. If it was moved, pass --relocated moved: it goes on "
        "as the same W&B run. If this is a copy, pass --relocated copied: it becomes a run of its own that starts "
        "from the newest checkpoint"
    )


def check_readable(path: Path) -> None:
    """Raises TrainError when this user may not read an existing folder, or one on the way to it."""
    try:
        os.listdir(path)
    except PermissionError as error:
        raise TrainError(f"{path}: cannot be read ({error.strerror}); {NOT_YOURS}") from None
    except (FileNotFoundError, NotADirectoryError):
        return


def _holds(folder: Path, run_id: str) -> bool:
    """Whether a folder holds the run of this id; raises OSError when that cannot be told."""
    try:
        return Record.from_bytes(read_file(folder / RECORD_FILE, limit=LIMIT)).run_id == run_id
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
