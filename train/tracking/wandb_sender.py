"""A thread that takes a run's points to W&B, so that training never waits for it, whatever W&B does."""

import logging
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import psutil

from shards.files import parse_lines, read_file
from shards.reading.remote.failures import cleaned
from train.config import TrackingConfig
from train.runs.run_folder import METRICS_FILE, RunDir
from train.tracking.media import Media
from train.tracking.wandb_media import to_point as media_point
from train.tracking.wandb_run import offline_parts, online_parts, start_part, steps_at_server, steps_in, to_point

# At the end of an attempt W&B has this long to take what is left.
CLOSE_S = 30.0
# Sounds and pictures that wait for a slow W&B; of more, the oldest go.
MEDIA = 8


class Sender:
    """Follows metrics.jsonl, which is the queue: nothing is lost while W&B is slow, and memory does not grow.

    Args:
        run: The run's folder.
        config: Project and name.
        settings: For W&B's page of the run.
        mode: online or offline.
    """

    def __init__(self, run: RunDir, config: TrackingConfig, settings: dict[str, Any], mode: str) -> None:
        self._run, self._config, self._settings, self._mode = run, config, settings, mode
        self._media: deque[Media] = deque()
        self._dropped = 0
        self._read = 0  # bytes of metrics.jsonl
        self._upto, self._steps = -1, set[int]()  # what W&B had when this attempt began
        self._wake = threading.Event()
        self._closing = self._failed = self._given_up = self._over = False
        self._thread = threading.Thread(target=self._guarded, name="wandb", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is a new line in metrics.jsonl."""
        self._wake.set()

    def add(self, media: Media) -> None:
        """Sends media after the point of their step; they are sent once or, by a W&B that is too slow, never."""
        if not self._over:
            self._media.append(media)
        while len(self._media) > MEDIA:
            self._media.popleft()
            self._dropped += 1

    def close(self, failed: bool) -> None:
        """Sends what is left and ends this attempt's part, within CLOSE_S: a W&B that hangs must not hold GPUs."""
        self._failed, self._closing = failed, True
        self._wake.set()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._given_up = True
            end_service()
            warn(f"W&B did not take all within {CLOSE_S:g} s; python -m train sync {self._run.path} brings the rest")
        elif self._dropped:
            warn(f"W&B was too slow for {self._dropped} of the examples; all points are there")

    def _guarded(self) -> None:
        """W&B failing never stops training."""
        logging.raiseExceptions = False  # on a full disk W&B's log would print a traceback for each of its lines
        try:
            self._follow()
        except Exception as error:
            if not self._given_up:
                rest = f"python -m train sync {self._run.path} brings what is missing"
                warn(f"W&B is off from here on ({first_line(error)}); metrics.jsonl goes on, {rest}")
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
        run, name = self._run, self._config.name or self._run.name
        if self._mode == "online":
            try:
                part = start_part(run, self._config.project, name, "online", self._settings)
                self._upto = steps_at_server(part)
                return part
            except Exception as error:
                import wandb

                # W&B itself does not go offline; and its service still holds the run that could not begin.
                wandb.teardown()
                warn(
                    f"W&B cannot be reached ({first_line(error)}); this attempt is offline, "
                    f"python -m train sync {run.path} uploads it"
                )
        self._steps = steps_in(online_parts(run) + offline_parts(run))
        return start_part(run, self._config.project, name, "offline", self._settings)

    def _is_known(self, step: int) -> bool:
        # What attempts before have sent cannot be taken back, and comes out the same: it is not sent again.
        return step <= self._upto or step in self._steps

    def _send_new(self, part: Any) -> None:
        for row in self._new_rows(self._run.path / METRICS_FILE):
            if not self._is_known(row["step"]):
                part.log(to_point(row))
            self._send_media(part, row["step"])

    def _new_rows(self, path: Path) -> list[dict[str, Any]]:
        """The whole lines that were added since the last time."""
        if not path.exists():
            return []
        content = read_file(path, start=self._read)
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return parse_lines(whole)

    def _send_media(self, part: Any, step: int) -> None:
        # Right after the point of their step: the last step that W&B has is to tell what it has.
        while self._media and self._media[0].step <= step:
            media = self._media.popleft()
            if self._is_known(media.step):
                continue
            try:
                point = media_point(media)
            except OSError:  # no room for the files
                self._dropped += 1
                continue
            part.log(point)


def end_service() -> None:
    """Ends W&B's own process, which would outlive this one; what it has written stays."""
    for child in psutil.Process().children(recursive=True):
        if child.name().startswith("wandb-core"):
            child.kill()


def first_line(error: Exception) -> str:
    """What to tell of an error: a proxy's or a server's address may hold a password."""
    return cleaned((str(error) or type(error).__name__).splitlines()[0])


def warn(what: str) -> None:
    """One line for people."""
    print(f"warning: {what}", file=sys.stderr, flush=True)
