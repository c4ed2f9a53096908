"""`python -m train verify-resume FAMILY ...`: checks on your machine and data that resuming loses nothing."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shards.files import read_lines
from train.cli.parser import Verification
from train.errors import TrainError
from train.process.stop_requests import FINISHED, STOPPED
from train.runs.checkpoint import all_checkpoints
from train.runs.lines import read_points
from train.runs.run_folder import METRICS_FILE

LAUNCHER = "accelerate_config.yaml"
# Largest relative difference of losses: sums over another number of processes round differently.
TOLERANCE = 5e-3
LIMIT_S = 3600


@dataclass
class Trial:
    """One way to interrupt and resume the run.

    Attributes:
        name: Shown in the table.
        attempts: Number of processes of each attempt; all attempts but the last stop before the last step.
        exact: Whether losses and weights must be equal bit for bit.
    """

    name: str
    attempts: tuple[int, ...]
    exact: bool


TRIALS = (
    Trial("stopped and resumed", (1, 1), exact=True),
    Trial("stopped, resumed by two processes", (1, 2), exact=False),
    Trial("two processes, stopped, resumed by one", (2, 1), exact=False),
)


def verify_resume(settings: Verification) -> int:
    """Trains without interruption and in each way of TRIALS, compares, and prints a table; returns the exit code.

    Raises:
        TrainError: when an attempt fails, or a resumed run differs from the uninterrupted one.
    """
    words, steps = settings.words, settings.config.optim.steps
    if steps < 2:
        raise TrainError("optim.steps: verify-resume stops and resumes, so it needs at least 2 steps")
    if settings.config.until:
        raise TrainError("until: verify-resume compares runs of all steps: leave it out")
    rows, equal = [], True
    with tempfile.TemporaryDirectory(prefix="verify-resume-") as name:
        uninterrupted = Path(name) / "uninterrupted"
        _attempt(words, uninterrupted, 1, 0)
        for trial in TRIALS:
            run = Path(name) / trial.name.replace(" ", "-")
            for count, processes in enumerate(trial.attempts, start=1):
                last = count == len(trial.attempts)
                _attempt(words, run, processes, 0 if last else steps * count // len(trial.attempts))
            found = compare(uninterrupted, run, trial.exact)
            rows.append((trial.name, found))
            equal &= all(found.values())
    show(rows, steps)
    if not equal:
        raise TrainError("a resumed run differs from the uninterrupted run: see the table")
    return FINISHED


def compare(uninterrupted: Path, other: Path, exact: bool) -> dict[str, bool]:
    """Whether two runs consumed the same chunks, had the same losses, and ended with the same weights."""
    one, two = (
        {row["step"]: row["loss/total"] for row in read_points(run / METRICS_FILE) if "loss/total" in row}
        for run in (uninterrupted, other)
    )
    tolerance = 0.0 if exact else TOLERANCE
    losses = one.keys() == two.keys() and all(abs(one[s] - two[s]) <= tolerance * abs(one[s]) for s in one)
    found = {"chunks": consumed(uninterrupted) == consumed(other), "losses": losses}
    if exact:
        found["weights"] = _hashes(uninterrupted) == _hashes(other)
    return found


def consumed(run: Path) -> dict[int, list[int]]:
    """The chunks of each step in the order of their rows, from the `samples/` files of all processes."""
    steps: dict[int, dict[int, int]] = {}
    for file in (run / "samples").iterdir():
        for row in read_lines(file):
            steps.setdefault(row["step"], {}).update(zip(row["rows"], row["chunks"], strict=True))
    return {step: [whole[row] for row in sorted(whole)] for step, whole in sorted(steps.items())}


def show(rows: list[tuple[str, dict[str, bool]]], steps: int) -> None:
    """Prints the comparison of each trial as a table."""
    table = Table(title=f"{steps} steps, compared with an uninterrupted run")
    columns = ("chunks", "losses", "weights")
    for column in ("", *columns):
        table.add_column(column)
    for name, found in rows:
        words = {True: "the same", False: "DIFFERENT", None: ""}
        table.add_row(name, *(words[found.get(column)] for column in columns))
    Console().print(table)


def _attempt(words: list[str], run: Path, processes: int, stop_at: int) -> None:
    """Runs one attempt of the real command as a subprocess."""
    command = [sys.executable, "-m"]
    if processes > 1:
        machine = (
            ["--config_file", LAUNCHER] if Path(LAUNCHER).exists() else ["--multi_gpu", "--main_process_port", "0"]
        )
        command += ["accelerate.commands.launch", *machine, "--num_processes", str(processes), "-m"]
    flags = {"run-dir": run, "stop_at": stop_at, "tracking.samples": "true", "tracking.every": 1}
    flags |= {"tracking.wandb": "disabled", "checkpoint.every": 10**9}
    command += ["train", *words, *(word for name, value in flags.items() for word in (f"--{name}", str(value)))]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    try:
        finished = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise TrainError(f"{' '.join(command)}: still running after {LIMIT_S} s") from None
    if finished.returncode not in (FINISHED, STOPPED):
        errors = [line for line in finished.stderr.splitlines() if line.startswith("error")]
        raise TrainError(f"an attempt failed: {(errors or finished.stderr.splitlines() or ['it printed nothing'])[-1]}")


def _hashes(run: Path) -> str:
    newest = all_checkpoints(run / "checkpoints")[0]
    files: dict[str, Any] = json.loads((newest / "manifest.json").read_text())["files"]
    return "".join(files[f"{name}.safetensors"]["sha256"] for name in ("training", "model", "optimizer"))
