"""The run's folder: what a run is, which attempts it had, and whether it is finished.

RUN_DIR/run.json         id, family, settings, data fingerprint; written once
RUN_DIR/attempts.jsonl   a line when an attempt starts, a line when it ends
RUN_DIR/metrics.jsonl    every logged point, each step once
RUN_DIR/checkpoints/     see checkpoint.py
RUN_DIR/model/           the finished model, for `audiovae.load`
RUN_DIR/STOP             touch it to save and stop
RUN_DIR/STOPPED, DONE    how the last attempt ended
"""

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.files import write_atomically
from train.config import RunConfig, differences, flat
from train.errors import TrainError

FORMAT = 1


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
        """An existing run; raises TrainError when there is none."""
        path = Path(path)
        try:
            content = json.loads((path / "run.json").read_text())
            if content["format"] != FORMAT:
                raise TrainError(f"{path}/run.json: format {content['format']} is of another version of the program")
            fields = {k: content[k] for k in ("run_id", "family", "config", "data_fingerprint")}
        except FileNotFoundError:
            raise TrainError(f"{path}: no run.json there; give the folder that was --run-dir in training") from None
        except (ValueError, KeyError, TypeError) as error:
            raise TrainError(f"{path}/run.json: damaged ({error}); restore it or choose another --run-dir") from None
        return cls(path, attempt=len(read_lines(path / "attempts.jsonl", "started")), **fields)

    @classmethod
    def create_or_resume(cls, config: RunConfig, family: str, data_fingerprint: str) -> "RunDir":
        """The folder of a new run, or that of one to go on with when everything that matters is the same."""
        path = config.run_dir
        if not (path / "run.json").exists():
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise TrainError(f"{path}: not a run and not empty; choose another --run-dir")
            try:
                (path / "checkpoints").mkdir(parents=True)
            except OSError as error:
                raise TrainError(f"{path}: cannot be made ({error.strerror}); choose another --run-dir") from None
            cls._found(config, family, data_fingerprint)
        elif not any((path / "checkpoints").glob("*")):
            # Nothing was saved, so there is nothing to go on with and nothing to lose: settings may change.
            cls._found(config, family, data_fingerprint)
        run = cls.open(path)
        if run.family != family:
            raise TrainError(f"{path}: holds a run of '{run.family}', not '{family}'; choose another --run-dir")
        changes = differences(run.config, flat(config))
        if run.data_fingerprint != data_fingerprint:
            changes.append(f"data: fingerprint {run.data_fingerprint} -> {data_fingerprint}")
        if changes and not config.allow_changes:
            raise TrainError(
                f"{path}: this run was started with other settings; use the same, choose another --run-dir, "
                "or give --allow_changes true:\n  " + "\n  ".join(changes)
            )
        return run

    @staticmethod
    def _found(config: RunConfig, family: str, data_fingerprint: str) -> None:
        """Writes run.json."""
        content = {
            "format": FORMAT,
            "run_id": secrets.token_hex(8),
            "family": family,
            "config": flat(config),
            "data_fingerprint": data_fingerprint,
        }
        write_atomically(config.run_dir / "run.json", json.dumps(content, indent=1) + "\n")

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step."""
        return (self.path / "DONE").exists()

    def begin(self, world: int) -> None:
        """Notes that an attempt starts; removes the request to stop that ended the one before."""
        for name in ("STOP", "STOPPED"):
            (self.path / name).unlink(missing_ok=True)
        self.attempt += 1
        self._note(event="started", world=world, job=os.environ.get("SLURM_JOB_ID", ""), pid=os.getpid())

    def end(self, reason: str, step: int, finished: bool = False) -> None:
        """Notes how the attempt ended, for people and for the batch script.

        Launchers do not pass exit codes on, so the files DONE and STOPPED say the same.
        """
        self._note(event="ended", reason=reason, step=step)
        write_atomically(self.path / ("DONE" if finished else "STOPPED"), f"step {step}: {reason}\n")

    def fail(self, reason: str, step: int) -> None:
        """Notes an attempt that ended by an error."""
        self._note(event="failed", reason=reason, step=step)

    def _note(self, **content: Any) -> None:
        line = {"attempt": self.attempt, "time": round(time.time(), 3), **content}
        append_line(self.path / "attempts.jsonl", line)


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Adds one JSON line and makes it durable."""
    with open(path, "a") as file:
        file.write(json.dumps(content) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The JSON lines of a file, only those of one event if given; a last line cut short is passed over."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if event is None or row.get("event") == event:
            rows.append(row)
    return rows
