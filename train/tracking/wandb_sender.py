"""A thread that sends the points of a run to W&B, so that training never waits for W&B."""

import logging
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import psutil

from shards.files import read_file
from shards.files.lines import LARGEST_FILE
from shards.text import printable
from train.config import TrackingConfig
from train.runs.lines import points_of
from train.runs.run_folder import METRICS_FILE, RunDir
from train.runs.sealed_lines import parse_sealed
from train.tracking.media import Media
from train.tracking.wandb_media import to_point as media_point
from train.tracking.wandb_run import (
    first_line,
    offline_parts,
    online_parts,
    start_part,
    steps_at_server,
    steps_in,
    to_point,
    what_to_do,
)

# At the end of an attempt, W&B has this many seconds to receive the remaining points.
CLOSE_S = 30.0
# Maximum number of media that wait for a slow W&B; beyond it, the oldest are dropped.
MEDIA = 8


class Sender:
    """Sends new lines of metrics.jsonl to W&B. The file is the queue: a slow W&B loses nothing and needs no memory.

    Args:
        run: The run folder.
        config: Project and name.
        mode: online or offline.
    """

    def __init__(self, run: RunDir, config: TrackingConfig, mode: str) -> None:
        self._run, self._config, self._mode = run, config, mode
        self._media: deque[Media] = deque()
        self._dropped = 0
        self._read = 0  # bytes read of metrics.jsonl
        self._upto, self._steps = -1, set[int]()  # what W&B had at the start of this attempt
        self._wake = threading.Event()
        self._closing = self._failed = self._given_up = self._over = False
        self._thread = threading.Thread(target=self._guarded, name="wandb", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Signals a new line in metrics.jsonl."""
        self._wake.set()

    def add(self, media: Media) -> None:
        """Queues media to be sent after the point of their step, once. If W&B is too slow, the oldest are dropped."""
        if not self._over:
            self._media.append(media)
        while len(self._media) > MEDIA:
            self._media.popleft()
            self._dropped += 1

    def close(self, failed: bool, within_s: float = CLOSE_S) -> None:
        """Sends the rest and finishes this attempt's part, in limited time so that a hanging W&B does not hold GPUs."""
        self._failed, self._closing = failed, True
        self._wake.set()
        self._thread.join(within_s)
        if self._thread.is_alive():
            self.give_up(within_s)
        elif self._dropped:
            warn(f"W&B was too slow: {self._dropped} sets of examples were dropped; all points were sent")

    def give_up(self, waited_s: float) -> None:
        """Ends W&B's service, which has had `waited_s` seconds to receive the rest."""
        self._given_up = True
        end_service()
        warn(f"W&B did not receive all points within {waited_s:g} s; run python -m train sync {self._run.path}")

    def _guarded(self) -> None:
        """Runs the thread; a failure of W&B never stops training."""
        logging.raiseExceptions = False  # on a full disk, W&B's log would print a traceback per line
        try:
            self._follow()
        except Exception as error:
            if not self._given_up:
                remedy = f"to upload the rest, run python -m train sync {self._run.path}"
                reason = first_line(str(error) or type(error).__name__)
                warn(f"W&B stopped ({reason}); metrics.jsonl continues; {remedy}")
        self._over = True
        self._media.clear()

    def _follow(self) -> None:
        part = self._start()
        while True:
            closing = self._closing
            self._send_new(part)
            if closing:
                break
            self._wake.wait()
            self._wake.clear()
        part.finish(exit_code=int(self._failed))

    def _start(self) -> Any:
        run, name = self._run, self._config.name
        if self._mode == "online":
            try:
                part = start_part(run, self._config.project, name, "online")
                self._upto = steps_at_server(part)
                return part
            except Exception as error:
                import wandb

                # W&B does not switch to offline mode, and its service still holds the run that did not start.
                wandb.teardown()
                warn(f"this attempt is offline: {what_to_do(run, str(error) or type(error).__name__)}")
        self._steps = steps_in(online_parts(run) + offline_parts(run))
        return start_part(run, self._config.project, name, "offline")

    def _is_known(self, step: int) -> bool:
        # Points of earlier attempts cannot be deleted and are reproduced exactly, so they are not sent again.
        return step <= self._upto or step in self._steps

    def _send_new(self, part: Any) -> None:
        for row in self._new_rows(self._run.path / METRICS_FILE):
            if not self._is_known(row["step"]):
                part.log(to_point(row))
            self._send_media(part, row["step"])

    def _new_rows(self, path: Path) -> list[dict[str, Any]]:
        """The complete lines added since the last call."""
        if not path.exists():
            return []
        content = read_file(path, start=self._read, limit=LARGEST_FILE)
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return points_of(parse_sealed(whole))

    def _send_media(self, part: Any, step: int) -> None:
        # Directly after the point of their step, because the last step on the server marks what it has.
        while self._media and self._media[0].step <= step:
            media = self._media.popleft()
            if self._is_known(media.step):
                continue
            try:
                point = media_point(media)
            except OSError:  # no disk space for the files
                self._dropped += 1
                continue
            part.log(point)


def end_service() -> None:
    """Kills W&B's service process, which would outlive this one; files that it wrote remain."""
    for child in psutil.Process().children(recursive=True):
        if child.name().startswith("wandb-core"):
            child.kill()


def warn(message: str) -> None:
    """Prints a one-line warning to stderr."""
    print(printable(f"warning: {message}"), file=sys.stderr, flush=True)
