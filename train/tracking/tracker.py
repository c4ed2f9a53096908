"""Points and media of a run: metrics.jsonl is the record, W&B the window on it. Rank 0 only."""

import json
import time
from pathlib import Path
from typing import Any

from shards.files import append_line, read_file, read_lines, write_atomically
from train.config import RunConfig, TrackingConfig, settings_of
from train.runs.run_folder import METRICS_FILE, RunDir
from train.tracking.media import Media
from train.tracking.wandb_sender import Sender, warn


def forget_after(path: Path, step: int) -> None:
    """Drops the points that a run resumed at `step` makes again, so that each step is there once.

    A line that a crash or a full disk cut short goes too: readers of JSON lines stumble over it.
    """
    lines = read_file(path).splitlines() if path.exists() else []
    # A run that begins anew measures step 0 again; a resumed one has logged its step already.
    kept = [row for row in read_lines(path) if row.get("step", step + 1) <= step and step > 0]
    if len(kept) < len(lines):
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))


class Tracker:
    """Writes points to metrics.jsonl, from where they go to W&B as long as it works. `mode`: as from `wandb_mode`."""

    def __init__(self, run: RunDir, config: TrackingConfig, settings: RunConfig, step: int, mode: str) -> None:
        self.file = run.path / METRICS_FILE
        self.attempt = run.attempt
        self._unwritten: list[dict[str, Any]] = []
        forget_after(self.file, step)
        self._sender = Sender(run, config, settings_of(settings), mode) if mode != "disabled" else None

    def log(self, step: int, values: dict[str, float]) -> None:
        """One point: values by name at an optimizer step. A full disk does not end training: it is tried again."""
        row = {"step": step, "attempt": self.attempt, "time": round(time.time(), 3), **values}
        self._unwritten.append(row)
        self._write()
        if self._sender:
            self._sender.wake()

    def _write(self) -> None:
        try:
            while self._unwritten:
                append_line(self.file, self._unwritten[0])
                self._unwritten.pop(0)
        except OSError as error:
            if len(self._unwritten) == 1:
                warn(f"{self.file}: not written ({error.strerror}); points are kept in memory until there is room")

    def show(self, media: Media) -> None:
        """Held-out examples and the use of codes, for W&B alone."""
        if self._sender:
            self._sender.add(media)

    def close(self, failed: bool) -> None:
        """Ends this attempt's part of the W&B run; takes no longer than `sender.CLOSE_S`."""
        self._write()
        if self._sender:
            self._sender.close(failed)
