"""The run's folder: what a run is, which attempts it had, and whether it is finished.

RUN_DIR/run.json         id, family, settings, data fingerprint
RUN_DIR/attempts.jsonl   a line when an attempt starts, a line when it ends
RUN_DIR/metrics.jsonl    every logged point, each step once
RUN_DIR/checkpoints/     see checkpoint.py
RUN_DIR/model/           the finished model, for `audiovae.load`
RUN_DIR/jobs.jsonl       what batch jobs decided when their launcher had ended, see again.py
RUN_DIR/preflight.json   what the look before the first step found
RUN_DIR/STOP             touch it to save and stop
RUN_DIR/STOPPED, DONE    how the last attempt ended
RUN_DIR/lock             held by the process that trains here

A run folder may come from a stranger. It may be reached through a link, but holds none, see `shards.files`.
"""

import fcntl
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from shards.files import (
    UnsafePathError,
    append_line,
    check_folder,
    check_place,
    make_folder,
    open_regular,
    read_file,
    read_lines,
    remove_file,
    remove_leftovers,
    write_atomically,
)
from train.config import RunConfig, default_settings, differences, settings_of
from train.errors import TrainError, TransientError
from train.runs.requeue import JOBS_FILE

FORMAT = 1
METRICS_FILE = "metrics.jsonl"
DAMAGE_FILE = "damage.jsonl"
PREFLIGHT_FILE = "preflight.json"  # bytes and seconds of a save, the length of a job
FILES = ("run.json", "attempts.jsonl", METRICS_FILE, DAMAGE_FILE, PREFLIGHT_FILE, JOBS_FILE, "STOP", "STOPPED", "DONE")
FOLDERS = ("checkpoints", "model", "preflight", "report", "samples", "wandb")
# Locks of this process: they are held until it ends, however it ends.
_locks: list[int] = []


@dataclass
class RunDir:
    """A run's folder and what was decided when it began.

    Attributes:
        path: The folder.
        run_id: Made once; the W&B run of all attempts.
        family: vae, hvae or vqvae.
        config: Settings of the first attempt, as dotted keys.
        data_fingerprint: Of the training split.
        attempt: From 1; of the running attempt, or the last one.
    """

    path: Path
    run_id: str
    family: str
    config: dict[str, Any]
    data_fingerprint: str
    attempt: int

    @classmethod
    def open(cls, path: str | Path) -> "RunDir":
        """An existing run; raises TrainError when there is none, or links or pipes stand for its files."""
        path = Path(path)
        try:
            check_contents(path)
            content = json.loads(read_file(path / "run.json"))
            if content["format"] != FORMAT:
                raise TrainError(f"{path}/run.json: format {content['format']} is of another version of the program")
            fields = {k: content[k] for k in ("run_id", "family", "config", "data_fingerprint")}
            attempts = len(read_lines(path / "attempts.jsonl", "started"))
        except OSError as error:
            raise TrainError(
                f"{path}: no run.json to be read there ({error.strerror}); give the --run-dir of a training"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise TrainError(f"{path}/run.json: damaged ({error}); restore it or choose another --run-dir") from None
        return cls(path, attempt=attempts, **fields)

    @classmethod
    def create_or_resume(cls, config: RunConfig, family: str, data_fingerprint: str) -> "RunDir":
        """The folder of a new run, or that of one to go on with when everything that matters is the same.

        Raises:
            TrainError: when the folder is something else, or in use, or a run with other settings.
        """
        path = config.run_dir
        if not (path / "run.json").exists() and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise TrainError(f"{path}: not a run and not empty; choose another --run-dir")
        check_contents(path)
        try:
            make_folder(path / "checkpoints", path)
        except OSError as error:
            raise TrainError(f"{path}: cannot be made ({error.strerror}); choose another --run-dir") from None
        _lock(path)
        remove_leftovers(path)
        if not any((path / "checkpoints").iterdir()):
            # Nothing is saved, so there is nothing to go on with and nothing to lose: settings may be any.
            _write(path, secrets.token_hex(8), family, settings_of(config), data_fingerprint)
        run = cls.open(path)
        run._check_same(config, family, data_fingerprint)
        if run.config["data.path"] != config.data.place:
            # The same data in another place: `evaluate` is to find it.
            _write(path, run.run_id, family, {**run.config, "data.path": config.data.place}, data_fingerprint)
        return run

    def _check_same(self, config: RunConfig, family: str, data_fingerprint: str) -> None:
        if self.family != family:
            raise TrainError(f"{self.path}: holds a run of '{self.family}', not '{family}'; choose another --run-dir")
        changes = differences(self.config, settings_of(config), default_settings(family))
        if self.data_fingerprint != data_fingerprint:
            changes.append(f"data: fingerprint {self.data_fingerprint} -> {data_fingerprint}")
        shape = [change for change in changes if change.startswith("model.")]
        if shape:
            raise TrainError(
                f"{self.path}: saved with another model; choose another --run-dir:\n  " + "\n  ".join(shape)
            )
        if changes and not config.allow_changes:
            raise TrainError(
                f"{self.path}: this run was started with other settings; use the same, choose another --run-dir, "
                "or give --allow_changes true:\n  " + "\n  ".join(changes)
            )

    @property
    def name(self) -> str:
        """What people call the run: the name of its folder, however that was given."""
        return Path(os.path.abspath(self.path)).name

    @property
    def finished_at(self) -> int | None:
        """The step at which the run reached its end, or None."""
        try:
            return int(read_file(self.path / "DONE").split()[1].rstrip(b":"))
        except (OSError, ValueError, IndexError):
            return None

    def starts(self) -> list[dict[str, Any]]:
        """Where each attempt began: step, epoch, consumed, batch, seed."""
        rows = read_lines(self.path / "attempts.jsonl", "started")
        return [row for row in rows if {"step", "epoch", "consumed", "batch", "seed"} <= row.keys()]

    def begin(self, world: int, place: dict[str, int]) -> None:
        """Notes that an attempt starts, and where in the data; removes what said how the one before ended.

        A STOP that somebody touched since this process began is meant for this attempt, and stays.
        """
        self._note_loss(place["step"])
        for name in ("STOPPED", "DONE"):
            remove_file(self.path / name)
        stop = self.path / "STOP"
        if stop.exists() and stop.stat().st_mtime < psutil.Process().create_time():
            remove_file(stop)
        self.attempt += 1
        self._note(event="started", world=world, **place, job=os.environ.get("SLURM_JOB_ID", ""), pid=os.getpid())

    def _note_loss(self, step: int) -> None:
        """Notes how far the attempt before came when it could not say so itself, and what of it is lost."""
        rows = read_lines(self.path / METRICS_FILE)
        events = read_lines(self.path / "attempts.jsonl")
        if rows and events and events[-1].get("event") == "started":
            last = rows[-1]
            if last.get("attempt") == self.attempt:
                self._note(event="crashed", reason="killed", step=last["step"], seen=last["time"])
            else:
                self._note(event="crashed", reason="killed", step=events[-1].get("step", 0), seen=events[-1]["time"])

    def end(self, reason: str, step: int, finished: bool = False) -> None:
        """Notes how the attempt ended, for people and for the batch script.

        Launchers do not pass exit codes on, so the files DONE and STOPPED say the same.
        """
        self._note(event="ended", reason=reason, step=step)
        remove_file(self.path / "STOP")
        write_atomically(self.path / ("DONE" if finished else "STOPPED"), f"step {step}: {reason}\n")

    def fail(self, reason: str, step: int) -> None:
        """Notes an attempt that ended by an error."""
        self._note(event="failed", reason=reason, step=step)

    def _note(self, **content: Any) -> None:
        line = {"attempt": self.attempt, "time": round(time.time(), 3), **content}
        append_line(self.path / "attempts.jsonl", line)


def check_contents(path: Path) -> None:
    """Raises TrainError when a link, a pipe or a device stands for a file or a folder of a run."""
    try:
        for name in (*FILES, "lock"):
            check_place(path / name)
        for name in FOLDERS:
            check_folder(path / name)
    except UnsafePathError as error:
        raise TrainError(str(error)) from None


def _write(path: Path, run_id: str, family: str, config: dict[str, Any], data_fingerprint: str) -> None:
    """Writes run.json."""
    content = {
        "format": FORMAT,
        "run_id": run_id,
        "family": family,
        "config": config,
        "data_fingerprint": data_fingerprint,
    }
    write_atomically(path / "run.json", json.dumps(content, indent=1) + "\n")


def _lock(path: Path) -> None:
    """Keeps a second training process out of the folder, for as long as this one lives."""
    file = open_regular(path / "lock", os.O_WRONLY | os.O_CREAT)  # closed by the end of the process
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise TransientError(f"{path}: another process is training there; wait for it, or touch {path}/STOP") from None
    except OSError:  # a file system without locks: go on without
        os.close(file)
        return
    _locks.append(file)
