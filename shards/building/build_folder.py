"""The state of an unfinished build: the hidden folder ``.build`` in the data folder."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shards.building.plan import Part, Plan
from shards.errors import DataError
from shards.files import UnsafePathError, sync, why_unwritable, write_atomically
from shards.files.lease import sweep

NAME = ".build"


class BuildFolder:
    """The files and folders of the unfinished build of one data folder."""

    def __init__(self, out: Path):
        self.out = out
        self.folder = out / NAME
        self.plan = self.folder / "plan.json"
        self.shards = self.folder / "shards"  # finished ones, until all are

    def lease(self, name: str) -> Path:
        """The lease of one piece of work."""
        return self.folder / f"{name}.lease"

    def result(self, part: Part) -> Path:
        """The result file of a finished part."""
        return self.folder / f"part-{part.index:05d}-{part.key[:12]}.json"

    def work(self, part: Part) -> list[Path]:
        """The folders that attempts at a part have left."""
        return sorted(self.folder.glob(f"part-{part.index:05d}-{part.work[:12]}-*"))

    def new_work(self, part: Part) -> Path:
        """A new folder for one attempt; no other process uses it."""
        return self.folder / f"part-{part.index:05d}-{part.work[:12]}-{secrets.token_hex(4)}"

    def note_tasks(self, count: int) -> None:
        """Remember how many tasks share the work, for the report of missing tasks."""
        (self.folder / f"tasks-{count}").touch()

    def task_count(self) -> int:
        """How many tasks shared the work lately."""
        noted = sorted(self.folder.glob("tasks-*"), key=lambda path: path.stat().st_mtime_ns)
        return int(noted[-1].name.removeprefix("tasks-")) if noted else 1

    def load_plan(self) -> Plan | None:
        """The plan that is being carried out. Raises DataError when it cannot be used."""
        try:
            return Plan.from_json(self.plan.read_text())
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(
                f"{self.plan} is damaged or of another version: delete {self.folder} to plan anew"
            ) from None

    def publish(self, plan: Plan) -> Plan:
        """Publish a plan, unless another process was first; returns the plan that holds."""
        own = self.folder / f"plan-{secrets.token_hex(4)}"
        write_atomically(own, plan.to_json())
        try:
            os.link(own, self.plan)
        except FileExistsError:
            pass
        except OSError:  # no hard links here
            if not self.plan.exists():
                os.rename(own, self.plan)
        own.unlink(missing_ok=True)
        sync(self.folder)
        return self.load_plan() or plan

    def amend(self, plan: Plan) -> None:
        """Put a plan in the place of the one that is there; for the process that merges."""
        write_atomically(self.plan, plan.to_json())

    def clear(self) -> None:
        """Remove everything that no other process holds: the plan first, so that the rest is not taken for a build."""
        self.plan.unlink(missing_ok=True)
        for path in self.folder.glob("*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix != ".lease":
                path.unlink(missing_ok=True)

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Errors of the disk under the work inside become a DataError that says how to go on."""
        try:
            yield
        except (UnsafePathError, BrokenPipeError):
            raise  # the one says all, and the other is not about the disk
        except OSError as error:
            why = why_unwritable(error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                what = f"{self.out} cannot take more ({why}): make room"
            else:
                place = error.filename if isinstance(error.filename, str | os.PathLike) else self.out
                what = f"{place}: {why}. Check the disk and its permissions"
            raise DataError(f"{what} and run the same command again to continue") from None

    def leave(self) -> None:
        """Remove the empty folders, if the disk lets it; the next command tries again."""
        with suppress(OSError):
            sweep(self.folder)
        for folder in (self.folder, self.out):
            try:
                folder.rmdir()
            except OSError:
                return
