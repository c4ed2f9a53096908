"""The run's folder: its settings, its attempts, and whether it is finished.

RUN_DIR/run.json         id, family, settings and their changes, data fingerprint, see record.py
RUN_DIR/attempts.jsonl   one line when an attempt starts, one when it ends
RUN_DIR/metrics.jsonl    every logged point; each step appears once
RUN_DIR/checkpoints/     see checkpoint.py
RUN_DIR/model/           the finished model, for `audiovae.load`
RUN_DIR/jobs.jsonl       decisions to requeue a batch job, see requeue.py
RUN_DIR/preflight.json   results of the preflight check
RUN_DIR/STOP             create it to save and stop
RUN_DIR/STOPPED, DONE    how the last attempt ended
RUN_DIR/lock             locked by the process that trains here

A run folder may come from a stranger. It may be reached through a link, but holds none, see `shards.files`.
"""

import fcntl
import os
import secrets
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from shards.files import (
    UnsafePathError,
    check_folder,
    check_place,
    is_leftover,
    make_folder,
    open_regular,
    read_file,
    remove_file,
    remove_leftovers,
    write_atomically,
)
from shards.text import printable
from train.config import RunConfig, is_free, settings_of, with_defaults
from train.errors import TrainError, TransientError
from train.runs.lines import Done, read_done, read_events, read_points
from train.runs.location import NOT_YOURS, Place, check_readable, is_moved
from train.runs.record import LIMIT, RECORD_FILE, OtherVersionError, Record, check_usable, copy_in_checkpoints
from train.runs.requeue import ATTEMPTS_FILE, JOBS_FILE
from train.runs.sealed_lines import append_sealed, damaged_lines
from train.runs.settings_history import Change, changed, extended, shown

METRICS_FILE = "metrics.jsonl"
DAMAGE_FILE = "damage.jsonl"
PREFLIGHT_FILE = "preflight.json"  # bytes and seconds of a save, the length of a job
SEALED_FILES = (ATTEMPTS_FILE, METRICS_FILE, JOBS_FILE, PREFLIGHT_FILE)  # their lines have checksums
FILES = (RECORD_FILE, ATTEMPTS_FILE, METRICS_FILE, DAMAGE_FILE, PREFLIGHT_FILE, JOBS_FILE, "STOP", "STOPPED", "DONE")
FOLDERS = ("checkpoints", "model", "preflight", "report", "samples", "wandb")
# What an attempt leaves that did not get as far as run.json.
BEGINNINGS = {"lock", "checkpoints"}
COPY = " (if this is a copy, stop it and pass --relocated copied)"
# Settings of a single attempt.
ATTEMPT_ONLY = ("stop_at", "allow_changes", "relocated")
# Open files of this process's locks, which the kernel releases when the process ends.
_locks: list[int] = []


@dataclass
class RunDir:
    """A run's folder and the content of its run.json.

    Attributes:
        path: The folder.
        record: What the run was made of.
        attempt: Number of the running or last attempt, from 1; 0 before the first.
    """

    path: Path
    record: Record
    attempt: int
    _next: Record | None = field(default=None, repr=False)  # of the attempt that begins

    @classmethod
    def open(cls, path: str | Path) -> "RunDir":
        """Opens an existing run; raises TrainError when there is none, or one of its files is a link or a pipe."""
        path = Path(path)
        check_readable(path)
        check_contents(path)
        events = read_events(path / ATTEMPTS_FILE)
        # Where the line of a start is damaged, later lines still have the attempt's number.
        numbers = [event.get("attempt", 0) for event in events]
        return cls(path, _read(path), max(sum(map(_starts, events)), *numbers, 0))

    @classmethod
    def create_or_resume(
        cls,
        config: RunConfig,
        family: str,
        data_fingerprint: str,
        run_id: str = "",
        wandb: dict[str, str] | None = None,
    ) -> "RunDir":
        """Creates the folder of a new run, or opens that of a run to resume.

        Settings that may differ from those of the attempt before become the run's settings when the attempt begins.

        Args:
            config: The settings.
            family: vae, hvae or vqvae.
            data_fingerprint: Fingerprint of the training split.
            run_id: The id that the environment names for W&B, or "".
            wandb: What else W&B's variables say, for the record; those of the first attempt hold.

        Raises:
            TransientError: when another process is training in the folder.
            TrainError: when the folder holds something else, or a run with other data or settings.
        """
        path = config.run_dir
        check_readable(path)
        if path.exists() and not holds_a_run(path):
            raise TrainError(f"{path}: not a run and not empty; choose another --run-dir")
        check_contents(path)
        try:
            make_folder(path / "checkpoints", path)
        except OSError as error:
            raise TrainError(f"{path}: cannot be created ({error.strerror}); choose another --run-dir") from None
        _lock(path)
        remove_leftovers(path)
        record = Record(run_id or secrets.token_hex(8), family, settings_of(config), data_fingerprint)
        record.place, record.wandb = Place.of(path).to_json(), wandb or {}
        if any((path / "checkpoints").iterdir()):
            run = cls.open(path)
            run._check_same(config, record)
            if not run.is_over(config):
                run._next = run._continued(record, config, run_id)
        else:
            # Without a checkpoint there is nothing to resume or to lose, so the settings may change.
            write_atomically(path / RECORD_FILE, _with_earlier_id(path, record, run_id).to_bytes())
            run = cls.open(path)
        return run

    def _check_same(self, config: RunConfig, now: Record) -> None:
        """Raises TrainError when the family or the model is another, or settings differ and may not."""
        if self.family != now.family:
            raise TrainError(
                f"{self.path}: holds a run of '{self.family}', not '{now.family}'; choose another --run-dir"
            )
        differences = changed(with_defaults(self.record.settings, self.family, now.config), now.settings)
        differences = {key: values for key, values in differences.items() if not is_free(key)}
        shape = {key: values for key, values in differences.items() if key.startswith("model.")}
        if shape:
            raise TrainError(
                f"{self.path}: the checkpoints have another model; choose another --run-dir:\n  " + _listed(shape)
            )
        if differences and not config.allow_changes:
            last = f"\n  Its settings changed {self.changes[-1]}" if self.changes else ""
            raise TrainError(
                f"{self.path}: this run has other settings; use the same, choose another --run-dir, "
                f"or pass --allow_changes true:\n  {_listed(differences)}{last}"
            )

    def _continued(self, record: Record, config: RunConfig, given: str) -> Record:
        """The record for an attempt that resumes; of a run of its own where this folder is a copy."""
        moved = is_moved(self.record, self.path, config.relocated)
        before = self.record.place.get("path", self.config.get("run_dir"))
        is_trial = "WANDB_SWEEP_ID" in os.environ
        if given and (given == self.run_id if moved is False else is_trial and given != self.run_id):
            whose = "the original's" if moved is False else f"not this run's ({self.run_id})"
            raise TrainError(
                f"{self.path}: WANDB_RUN_ID={given} is {whose}: unset WANDB_RUN_ID WANDB_SWEEP_ID; each trial of a "
                "sweep needs its own --run-dir"
            )
        # Versions that recorded no environment have the project among the settings.
        first = {"project": self.config["tracking.project"]} if self.config.get("tracking.project") else {}
        if moved is not False:
            if moved:
                print(printable(f"{self.path}: moved here from {before}; the same run goes on{COPY}"), flush=True)
            wandb = {**record.wandb, **first, **self.record.wandb}
            kept = self.record
            record = replace(record, parent=kept.parent, wandb=wandb, started_from=kept.started_from)
            return replace(record, run_id=self.run_id, changes=self.changes)
        told = f"a copy of run {self.run_id} in {before}; it goes on as run {record.run_id}"
        print(printable(f"{self.path}: {told}"), flush=True)
        parent = {"run_id": self.run_id, "path": str(before)}
        return replace(record, changes=self.changes, parent=parent, started_from=self.record.started_from)

    @property
    def has_checkpoints(self) -> bool:
        """Whether there are checkpoints to resume from, damaged ones included."""
        return any((self.path / "checkpoints").iterdir())

    def note_start(self, started_from: dict[str, str]) -> None:
        """Records what weights a new run starts from."""
        self.record = replace(self.record, started_from=started_from)
        write_atomically(self.path / RECORD_FILE, self.record.to_bytes())

    @property
    def run_id(self) -> str:
        """The run's random id."""
        return self.record.run_id

    @property
    def family(self) -> str:
        """vae, hvae or vqvae."""
        return self.record.family

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the newest attempt, as dotted keys."""
        return self.record.config

    @property
    def data_fingerprint(self) -> str:
        """Fingerprint of the training split of the newest attempt."""
        return self.record.data_fingerprint

    @property
    def changes(self) -> list[Change]:
        """The changes of settings between attempts, oldest first."""
        return self.record.changes

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return Path(os.path.abspath(self.path)).name

    @property
    def done(self) -> Done | None:
        """What the file DONE says; None where the run has not finished."""
        return read_done(self.path / "DONE")

    @property
    def finished_at(self) -> int | None:
        """The step at which the run finished, or None."""
        done = self.done
        return done.step if done else None

    def is_over(self, config: RunConfig) -> bool:
        """Whether the run has finished, and these settings leave it so: more steps alone do not undo an early end."""
        if (done := self.done) is None:
            return False
        return done.step >= config.optim.steps or bool(done.early and config.until == self.config.get("until", ""))

    def starts(self) -> list[dict[str, Any]]:
        """The start of each attempt: step, epoch, consumed, batch, seed; and mixture where it had several data sets."""
        rows = filter(_starts, read_events(self.path / ATTEMPTS_FILE))
        return [row for row in rows if {"step", "epoch", "consumed", "batch", "seed"} <= row.keys()]

    def damaged_lines(self) -> dict[str, int]:
        """How many lines of the run's files are damaged, by file; files without damage are left out."""
        counts = {name: damaged_lines(self.path / name) for name in SEALED_FILES}
        return {name: count for name, count in counts.items() if count}

    def begin(self, world: int, place: dict[str, Any]) -> list[Change]:
        """Records that an attempt starts, with its place in the data, and deletes STOPPED and DONE of the previous one.

        The settings of this attempt become those of the run. A STOP file that is newer than this process is a request
        to this attempt, and stays.

        Returns:
            The changes of settings that take effect now.
        """
        self._note_loss(place["step"])
        for name in ("STOPPED", "DONE"):
            remove_file(self.path / name)
        stop = self.path / "STOP"
        if stop.exists() and stop.stat().st_mtime < psutil.Process().create_time():
            remove_file(stop)
        self.attempt += 1
        difference = self._adopt(place["step"])
        who: dict[str, Any] = {"job": os.environ.get("SLURM_JOB_ID", ""), "pid": os.getpid()}
        self._note(event="started", world=world, **place, **who, **({"changed": difference} if difference else {}))
        return [change for change in self.changes if change.attempt == self.attempt]

    def _adopt(self, step: int) -> dict[str, tuple[Any, Any]]:
        """Makes the settings of this attempt those of the run; returns what differs from the attempt before."""
        if self._next is None:
            return {}
        before = with_defaults(self.record.settings, self.family, self._next.config)
        after = self._next.settings
        changes = extended(before, self.changes, after, self.attempt, step)
        parent = self._next.parent and {"step": step, **self._next.parent}
        self.record, self._next = replace(self._next, changes=changes, parent=parent), None
        write_atomically(self.path / RECORD_FILE, self.record.to_bytes())
        return {key: values for key, values in changed(before, after).items() if key not in ATTEMPT_ONLY}

    def _note_loss(self, step: int) -> None:
        """Records how far the previous attempt came, if that was killed before it could do so."""
        rows = read_points(self.path / METRICS_FILE)
        events = read_events(self.path / ATTEMPTS_FILE)
        if rows and events and _starts(events[-1]):
            last = rows[-1] if rows[-1].get("attempt") == self.attempt else events[-1]
            seen = {"seen": last["time"]} if "time" in last else {}
            self._note(event="crashed", reason="killed", step=last.get("step", 0), **seen)

    def end(self, reason: str, step: int, finished: bool = False) -> None:
        """Records how the attempt ended, in attempts.jsonl and in the file DONE or STOPPED.

        The batch script reads these files, as launchers do not pass exit codes on.
        """
        self._note(event="ended", reason=reason, step=step)
        remove_file(self.path / "STOP")
        write_atomically(self.path / ("DONE" if finished else "STOPPED"), f"step {step}: {reason}\n")

    def fail(self, reason: str, step: int) -> None:
        """Records that the attempt ended with an error."""
        self._note(event="failed", reason=reason, step=step)

    def _note(self, **content: Any) -> None:
        line = {"attempt": self.attempt, "time": round(time.time(), 3), **content}
        append_sealed(self.path / ATTEMPTS_FILE, line)


def check_contents(path: Path) -> None:
    """Raises TrainError when a link, a pipe or a device stands for a file or a folder of a run."""
    try:
        for name in (*FILES, "lock"):
            check_place(path / name)
        for name in FOLDERS:
            check_folder(path / name)
    except UnsafePathError as error:
        raise TrainError(str(error)) from None


def _starts(event: dict[str, Any]) -> bool:
    return event["event"] == "started"


def holds_a_run(path: Path) -> bool:
    """Whether a folder holds a run, or nothing but what an attempt leaves that could not write run.json."""
    if not path.is_dir():
        return False
    if (path / RECORD_FILE).exists() or copy_in_checkpoints(path / "checkpoints"):
        return True
    names = {entry.name for entry in path.iterdir() if not is_leftover(entry.name)}
    return names <= BEGINNINGS and not any((path / "checkpoints").glob("*"))


def _read(path: Path) -> Record:
    """Reads run.json, or where it is damaged the copy in the newest checkpoint; raises TrainError."""
    try:
        record = Record.from_bytes(read_file(path / RECORD_FILE, limit=LIMIT))
        check_usable(record)
        return record
    except OtherVersionError as error:
        raise TrainError(f"{path}/{RECORD_FILE}: {error}") from None
    except (FileNotFoundError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else f"damaged: {error}"
        if copy := copy_in_checkpoints(path / "checkpoints"):
            line = f"warning: {path}/{RECORD_FILE}: {what}; a checkpoint's copy is used"
            print(printable(line), file=sys.stderr, flush=True)
            return copy
        remedy = "pass the --run-dir of a training" if isinstance(error, OSError) else "restore it from a backup"
        raise TrainError(f"{path}: cannot read {RECORD_FILE} ({what}); {remedy}") from None
    except OSError as error:
        raise TrainError(
            f"{path}: cannot read {RECORD_FILE} ({error.strerror}); run the command again when it can be read"
        ) from None


def _with_earlier_id(path: Path, record: Record, given: str) -> Record:
    """The record with the id of an equal run that was stopped before its first checkpoint: for W&B both are one run."""
    try:
        earlier = Record.from_bytes(read_file(path / RECORD_FILE, limit=LIMIT))
        check_usable(earlier)
    except (OSError, ValueError):  # none, or one that is replaced now
        return record
    same = replace(record, run_id=earlier.run_id, wandb=earlier.wandb, started_from=earlier.started_from)
    return same if given in ("", earlier.run_id) and same.to_bytes() == earlier.to_bytes() else record


def _listed(differences: dict[str, tuple[Any, Any]]) -> str:
    return "\n  ".join(
        f"{printable(key)}: {shown(before)} -> {shown(after)}" for key, (before, after) in differences.items()
    )


def _lock(path: Path) -> None:
    """Locks the folder until this process ends, so that no second process trains there."""
    try:
        file = open_regular(path / "lock", os.O_WRONLY | os.O_CREAT)  # closed by the end of the process
    except PermissionError as error:
        raise TrainError(f"{path}: cannot be written ({error.strerror}); {NOT_YOURS}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise TransientError(
            f"{path}: another process is training there; wait for it, or stop it: touch {path}/STOP"
        ) from None
    except OSError:  # a file system without locks: continue without
        os.close(file)
        return
    _locks.append(file)
