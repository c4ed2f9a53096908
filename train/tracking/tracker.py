"""Logs points and media of a run to metrics.jsonl and W&B. Rank 0 only."""

import time
from pathlib import Path
from typing import Any

from shards.files import is_whole, read_file, write_atomically
from shards.files.lines import LARGEST_FILE
from train.config import TrackingConfig
from train.runs.run_folder import METRICS_FILE, RunDir
from train.runs.sealed_lines import append_sealed, damaged_lines, parse_sealed
from train.tracking.media import Media
from train.tracking.wandb_sender import CLOSE_S, Sender, warn


def forget_after(path: Path, step: int, logs_step: bool = False) -> None:
    """Deletes the points after `step`, which a resumed run logs again, so that each step occurs once.

    With `logs_step` the run logs `step` itself again, too. A run that starts from step 0 always does.

    Incomplete lines from a crash or a full disk are deleted too, because readers of JSON lines cannot parse them, and
    so are damaged ones, with a warning.
    """
    content = read_file(path, limit=LARGEST_FILE) if path.exists() else b""
    if count := damaged_lines(path):
        what = "damaged line was" if count == 1 else "damaged lines were"
        warn(f"{path}: {count:,} {what} removed, with the points in it; the training itself does not need them")
    end = step if logs_step or step == 0 else step + 1
    kept = [line + b"\n" for line in content.split(b"\n") if _is_before(line, end)]
    if (whole := b"".join(kept)) != content:
        write_atomically(path, whole)


def _is_before(line: bytes, end: int) -> bool:
    """Whether a line is intact, and its point before this step."""
    return any(is_whole(row.get("step")) and row["step"] < end for row in parse_sealed(line))


class Tracker:
    """Writes points to metrics.jsonl, from which a thread sends them to W&B.

    Args:
        run: The run.
        config: Project and name of the run in W&B.
        step: Steps done before this attempt.
        mode: The result of `wandb_mode`.
        logs_step: Whether this attempt logs `step` again.
    """

    def __init__(self, run: RunDir, config: TrackingConfig, step: int, mode: str, logs_step: bool = False) -> None:
        self.file = run.path / METRICS_FILE
        self.attempt = run.attempt
        self._unwritten: list[dict[str, Any]] = []
        forget_after(self.file, step, logs_step)
        self._sender = Sender(run, config, mode) if mode != "disabled" else None

    def log(self, step: int, values: dict[str, float]) -> None:
        """Logs values by name at an optimizer step. On a full disk, training continues and the next call retries."""
        row = {"step": step, "attempt": self.attempt, "time": round(time.time(), 3), **values}
        self._unwritten.append(row)
        self._write()
        if self._sender:
            self._sender.wake()

    def _write(self) -> None:
        try:
            while self._unwritten:
                append_sealed(self.file, self._unwritten[0])
                self._unwritten.pop(0)
        except OSError as error:
            if len(self._unwritten) == 1:
                warn(f"{self.file}: not written ({error.strerror}); points stay in memory until there is disk space")

    def show(self, media: Media) -> None:
        """Sends held-out examples and the use of the codes to W&B; metrics.jsonl does not record them."""
        if self._sender:
            self._sender.add(media)

    def close(self, failed: bool, within_s: float = CLOSE_S) -> None:
        """Finishes this attempt's part of the W&B run, within so many seconds."""
        self._write()
        if self._sender:
            self._sender.close(failed, within_s)

    def give_up(self) -> None:
        """Ends W&B's service at once; may be called in another thread while `close` waits."""
        if self._sender:
            self._sender.give_up(0.0)
