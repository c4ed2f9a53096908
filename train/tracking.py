"""Points and media of a run: metrics.jsonl is the record, W&B the window on it. Rank 0 only."""

import io
import json
import netrc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from PIL import Image

from shards.files import write_atomically
from train.config import RunConfig, TrackingConfig, settings_of
from train.errors import TrainError
from train.pictures import comparison
from train.rundir import METRICS_FILE, RunDir, append_line, read_lines

READING_S = 60
STEPS_FILE = "steps.json"  # beside the offline parts


def wandb_mode(wanted: str) -> str:
    """What `auto` means here: WANDB_MODE if set, else online with an API key, else offline."""
    if wanted != "auto":
        return wanted
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        known = netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        known = False
    return "online" if known else "offline"


def forget_after(path: Path, step: int) -> list[dict[str, Any]]:
    """Drops the points that a run resumed at `step` makes again, so that each step is there once.

    A line that a crash or a full disk cut short goes too: readers of JSON lines stumble over it.
    Returns the points that stay.
    """
    rows = read_lines(path)
    lines = path.read_bytes().splitlines() if path.exists() else []
    # A run that begins anew measures step 0 again; a resumed one has logged its step already.
    kept = [row for row in rows if row["step"] <= step and step > 0]
    if len(kept) < len(lines):
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
    return kept


def offline_parts(folder: Path) -> list[Path]:
    """The files of a run's offline parts, in the order in which they were begun."""
    return sorted(folder.glob("offline-run-*/*.wandb"), key=lambda file: file.parent.name)


def steps_of_part(file: Path) -> list[int]:
    """The steps of the points in one offline part, by W&B's own reader; after a crash fewer than were logged.

    Raises:
        TrainError: when it cannot be read: taken for empty, its points would be sent again.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=READING_S, check=False)
    if done.returncode:
        raise TrainError(f"{file}: cannot be read ({(done.stderr.splitlines() or ['no word'])[-1]})")
    steps = []
    for line in done.stdout.splitlines():
        with suppress(ValueError):
            item = json.loads(line).get("history", {}).get("item", {})
            if "attempt" in item:  # not the media
                steps.append(int(item["global_step"]))
    return steps


def offline_steps(folder: Path) -> set[int]:
    """The steps that the offline parts hold.

    What was read stays in STEPS_FILE: a part takes most of a second, and a run may have had a hundred attempts.
    """
    try:
        known = json.loads((folder / STEPS_FILE).read_text())
    except (OSError, ValueError):
        known = {}
    parts = {}
    for file in offline_parts(folder):
        name, size = file.parent.name, file.stat().st_size
        if known.get(name, {}).get("bytes") != size:
            known[name] = {"bytes": size, "steps": steps_of_part(file)}
        parts[name] = known[name]
    with suppress(OSError):  # a full disk: they are read again
        write_atomically(folder / STEPS_FILE, json.dumps(parts) + "\n")
    return {step for part in parts.values() for step in part["steps"]}


def start_wandb(run: RunDir, project: str, name: str, mode: str, settings: dict[str, Any]) -> Any:
    """W&B's run of this folder, the same one in all attempts, over the axis `global_step`."""
    part = wandb.init(
        project=project,
        name=name,
        id=run.run_id,
        resume="allow",
        dir=run.path,
        mode=mode,
        config=settings,
        settings=wandb.Settings(silent=True, console="off", init_timeout=60, x_disable_stats=True),
    )
    part.define_metric("global_step")
    part.define_metric("*", step_metric="global_step")
    return part


def to_point(row: dict[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl as W&B gets it."""
    return {"global_step": row["step"], **{k: v for k, v in row.items() if k not in ("step", "time")}}


class Tracker:
    """Writes points to metrics.jsonl and, as long as it works, to W&B."""

    def __init__(self, run: RunDir, config: TrackingConfig, settings: RunConfig, step: int) -> None:
        self.file = run.path / METRICS_FILE
        self.attempt = run.attempt
        kept = forget_after(self.file, step)
        # What attempts before have sent cannot be taken back, and comes out the same: it is not sent again.
        self._sent: Container[int] = ()
        self._wandb: Any = None
        mode = wandb_mode(config.wandb)
        if mode != "disabled":
            self._guarded(lambda: self._start(run, config, settings, mode))
            for row in kept if self._wandb is not None and step > 0 else []:
                self._send(row)  # what a crash kept from getting there

    def _start(self, run: RunDir, config: TrackingConfig, settings: RunConfig, mode: str) -> None:
        # The server says how far it got when a run is resumed online; offline, the files of the attempts say what
        # they hold, and one written on a full disk may have gaps.
        offline = offline_steps(run.path / "wandb") if mode == "offline" else None
        self._wandb = start_wandb(run, config.project, config.name or run.path.name, mode, settings_of(settings))
        self._sent = range(int(self._wandb.summary.get("global_step", -1)) + 1) if offline is None else offline

    def _guarded(self, action: Callable[[], None]) -> None:
        """W&B failing never stops training."""
        try:
            action()
        except Exception as error:
            self._wandb = None
            reason = (str(error) or type(error).__name__).splitlines()[0]
            print(f"warning: W&B is off from here on ({reason}); metrics.jsonl goes on", file=sys.stderr, flush=True)

    def log(self, step: int, values: dict[str, float]) -> None:
        """One point: values by name at an optimizer step."""
        row = {"step": step, "attempt": self.attempt, "time": round(time.time(), 3), **values}
        append_line(self.file, row)
        self._send(row)

    def _send(self, row: dict[str, Any]) -> None:
        if self._wandb is not None and row["step"] not in self._sent:
            self._guarded(lambda: self._wandb.log(to_point(row)))

    def examples(self, step: int, reference: np.ndarray, reconstruction: np.ndarray, rate: int) -> None:
        """Held-out chunks as sound (reference, then reconstruction) and as spectrograms; both [n, T]."""
        if self._wandb is None or step in self._sent:
            return

        def send() -> None:
            pause = np.zeros(rate // 4, dtype=np.float32)
            pairs = [np.concatenate([a, pause, b, pause]) for a, b in zip(reference, reconstruction, strict=True)]
            picture = comparison(reference.reshape(-1), reconstruction.reshape(-1), rate)
            self._wandb.log(
                {
                    "global_step": step,
                    "valid/reference_then_reconstruction": wandb.Audio(np.concatenate(pairs).clip(-1, 1), rate),
                    "valid/spectrograms": wandb.Image(Image.open(io.BytesIO(picture))),
                }
            )

        self._guarded(send)

    def close(self, failed: bool) -> None:
        """Ends this attempt's part of the W&B run."""
        if self._wandb is not None:
            self._guarded(lambda: self._wandb.finish(exit_code=int(failed)))
