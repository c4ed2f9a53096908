"""The run's folder: its settings, its attempts, and whether it is finished.

RUN_DIR/run.json         id, family, settings, data fingerprint
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
# Open files of this process's locks, which the kernel releases when the process ends.
_locks: list[int] = []


@dataclass
class RunDir:
    """A run's folder and the content of its run.json.

    Attributes:
        path: The folder.
        run_id: Random id, the same for all attempts; the id of the W&B run.
        family: vae, hvae or vqvae.
        config: Settings of the first attempt, as dotted keys.
        data_fingerprint: Fingerprint of the training split.
        attempt: Number of the running or last attempt, from 1; 0 before the first.
    """

    path: Path
    run_id: str
    family: str
    config: dict[str, Any]
    data_fingerprint: str
    attempt: int

    @classmethod
    def open(cls, path: str | Path) -> "RunDir":
        """Opens an existing run; raises TrainError when there is none, or one of its files is a link or a pipe."""
        path = Path(path)
        try:
            check_contents(path)
            content = json.loads(read_file(path / "run.json"))
            if content["format"] != FORMAT:
                raise TrainError(
                    f"{path}/run.json: format {content['format']} belongs to another version of the program"
                )
            fields = {k: content[k] for k in ("run_id", "family", "config", "data_fingerprint")}
            attempts = len(read_lines(path / "attempts.jsonl", "started"))
        except OSError as error:
            raise TrainError(
                f"{path}: cannot read run.json ({error.strerror}); pass the --run-dir of a training"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise TrainError(f"{path}/run.json: damaged ({error}); restore it or choose another --run-dir") from None
        return cls(path, attempt=attempts, **fields)

    @classmethod
    def create_or_resume(cls, config: RunConfig, family: str, data_fingerprint: str) -> "RunDir":
        """Creates the folder of a new run, or opens that of a run to resume.

        Raises:
            TransientError: when another process is training in the folder.
            TrainError: when the folder holds something else, or a run with other data or settings.
        """
        path = config.run_dir
        if not (path / "run.json").exists() and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise TrainError(f"{path}: not a run and not empty; choose another --run-dir")
        check_contents(path)
        try:
            make_folder(path / "checkpoints", path)
        except OSError as error:
            raise TrainError(f"{path}: cannot be created ({error.strerror}); choose another --run-dir") from None
        _lock(path)
        remove_leftovers(path)
        if not any((path / "checkpoints").iterdir()):
            # Without a checkpoint there is nothing to resume or to lose, so the settings may change.
            _write(path, secrets.token_hex(8), family, settings_of(config), data_fingerprint)
        run = cls.open(path)
        run._check_same(config, family, data_fingerprint)
        if run.config["data.path"] != config.data.place:
            # The data has moved: `evaluate` reads its path from run.json.
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
                f"{self.path}: the checkpoints have another model; choose another --run-dir:\n  " + "\n  ".join(shape)
            )
        if changes and not config.allow_changes:
            raise TrainError(
                f"{self.path}: this run was started with other settings; use the same, choose another --run-dir, "
                "or pass --allow_changes true:\n  " + "\n  ".join(changes)
            )

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return Path(os.path.abspath(self.path)).name

    @property
    def finished_at(self) -> int | None:
        """The step at which the run finished, or None."""
        try:
            return int(read_file(self.path / "DONE").split()[1].rstrip(b":"))
        except (OSError, ValueError, IndexError):
            return None

    def starts(self) -> list[dict[str, Any]]:
        """The start of each attempt: step, epoch, consumed, batch, seed."""
        rows = read_lines(self.path / "attempts.jsonl", "started")
        return [row for row in rows if {"step", "epoch", "consumed", "batch", "seed"} <= row.keys()]

    def begin(self, world: int, place: dict[str, int]) -> None:
        """Records that an attempt starts, with its place in the data, and deletes STOPPED and DONE of the previous one.

        A STOP file that is newer than this process is a request to this attempt, and stays.
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
        """Records how far the previous attempt came, if that was killed before it could do so."""
        rows = read_lines(self.path / METRICS_FILE)
        events = read_lines(self.path / "attempts.jsonl")
        if rows and events and events[-1].get("event") == "started":
            last = rows[-1]
            if last.get("attempt") == self.attempt:
                self._note(event="crashed", reason="killed", step=last["step"], seen=last["time"])
            else:
                self._note(event="crashed", reason="killed", step=events[-1].get("step", 0), seen=events[-1]["time"])

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
    """Locks the folder until this process ends, so that no second process trains there."""
    file = open_regular(path / "lock", os.O_WRONLY | os.O_CREAT)  # closed by the end of the process
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
