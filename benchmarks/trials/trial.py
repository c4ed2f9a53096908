"""Trains and measures one model with the real commands on its own processors."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.kl_warmup import warmup_words
from shards.files import read_lines, write_atomically
from train.runs.run_folder import METRICS_FILE

ROOT = Path(__file__).parents[2]
# The pace of a trial is measured between these two steps.
PACE_STEPS = (20, 40)
PACE_CHUNKS = 32  # held-out chunks of the evaluation at step 0
LIMIT_S = 3600
LEAST_STEPS = 150  # the codebooks start at 100
QUICK_STEPS = 150
QUICK_FLAGS = ("--data.batch", "8")
MINUTE = 60.0


@dataclass(frozen=True)
class Trial:
    """The training of one model.

    Attributes:
        name: The name, also of its folder.
        family: vae, hvae or vqvae.
        preset: A file under train/configs without its suffix.
        flags: Further flags of the training command.
        seed: The seed of weights, order and noise.
        seconds: Training time; models that are compared have the same.
        steps: Optimizer steps; if not 0, they replace `seconds`.
        alteration: A change that no setting makes, one of ALTERATIONS in `benchmarks/variants/__main__.py`.
        own_pace: Whether the alteration sets the pace too, and the flags do not: trials with equal `seconds` and
            different alterations take unequal steps.
        measures: Flags of the evaluation; None for a model that is trained only.
    """

    name: str
    family: str
    preset: str
    flags: tuple[str, ...] = ()
    seed: int = 0
    seconds: float = 5 * MINUTE
    steps: int = 0
    alteration: str = ""
    own_pace: bool = False
    measures: tuple[str, ...] | None = ("--examples", "2")

    @property
    def pace_key(self) -> tuple:
        """Trials with the same key train for the same number of steps, with different alterations unless `own_pace`."""
        what = self.alteration if self.own_pace else self.flags
        return self.family, self.preset, what

    @property
    def model_key(self) -> "Trial":
        """Trials with the same key train the same model; it is measured as the first of them says."""
        return replace(self, name="", seconds=0.0 if self.steps else self.seconds, measures=())


def shortened(trials: Iterable[Trial]) -> list[Trial]:
    """The trials with a few steps of small batches."""
    return [replace(each, steps=QUICK_STEPS, flags=(*each.flags, *QUICK_FLAGS)) for each in trials]


class TrialError(Exception):
    """A command failed; the message has the command and its error."""


@dataclass
class Result:
    """The result of a trial.

    Attributes:
        trial: The trial as plain values.
        steps: Optimizer steps.
        seconds: Measured training time.
        parameters: Number of parameters.
        summary: The content of the report's metrics.json; empty without an evaluation.
        points: The rows of metrics.jsonl.
        folder: The run folder.
    """

    trial: dict[str, Any]
    steps: int
    seconds: float
    parameters: int
    summary: dict[str, Any]
    points: list[dict[str, Any]]
    folder: Path

    def series(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of every point with this metric."""
        return [(row["step"], row[name]) for row in self.points if name in row]


def _run(words: Sequence[str], cpus: Sequence[int], allowed: Sequence[int] = (0,), limit_s: float = LIMIT_S) -> str:
    done = None
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=limit_s,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
            check=False,
        )
    if done is None:
        raise TrialError(f"python -m {' '.join(words)}: timed out after {limit_s:.0f} s")
    if done.returncode not in allowed:
        raise TrialError(f"python -m {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()[-1500:]}")
    return done.stdout + done.stderr


def command(trial: Trial, data: Path, run: Path, steps: int) -> list[str]:
    """The arguments of `python -m` that train a trial."""
    words = ["benchmarks.variants", trial.alteration] if trial.alteration else ["train"]
    preset = f"train/configs/{trial.preset}.yaml"
    words += [trial.family, "--config", preset, "--data", str(data)]
    words += ["--run-dir", str(run), "--seed", str(trial.seed), "--optim.steps", str(steps)]
    words += ["--checkpoint.every", "1000000", "--tracking.wandb", "disabled", "--preflight", "false"]
    words += ["--tracking.evaluate_every", str(max(1, steps // 4)), "--tracking.audio_every", "1000000"]
    if not trial.preset.startswith("study/"):
        words += warmup_words(str(ROOT / preset), steps)
    return [*words, *trial.flags]


def seconds_per_step(trial: Trial, data: Path, folder: Path, cpus: Sequence[int]) -> float:
    """Seconds per step from a short run whose codebooks start early; the run is kept and reused."""
    run = folder / "pace" / trial.name
    if not (run / "STOPPED").exists():
        words = [*command(trial, data, run, 10**6), "--stop_at", str(PACE_STEPS[1]), "--tracking.every", "10"]
        words += ["--tracking.evaluate_chunks", str(PACE_CHUNKS)]
        if trial.family == "vqvae":
            words += ["--model.quantizer.start_step", "5"]
        _run(words, cpus, (0, 85))
    times = {row["step"]: row["time"] for row in read_lines(run / METRICS_FILE)}
    first, last = PACE_STEPS
    return (times[last] - times[first]) / (last - first)


def is_done(trial: Trial, folder: Path) -> bool:
    """Whether a trial has been trained and, if it is to be, measured."""
    run = folder / "trials" / trial.name
    return (run / "DONE" if trial.measures is None else run / "report" / "metrics.json").exists()


def carry_out(trial: Trial, data: Path, folder: Path, cpus: Sequence[int], pace: Callable[[Trial], float]) -> Result:
    """Trains for `trial.seconds` and measures all held-out chunks. Finished steps of an earlier call are not repeated.

    Args:
        trial: The trial.
        data: The shards.
        folder: The folder of all trials.
        cpus: Processors to use.
        pace: A function that returns the seconds per step.

    Raises:
        TrialError: if a command fails.
    """
    run = folder / "trials" / trial.name
    note = folder / "trials" / f"{trial.name}.json"
    wanted = json.loads(json.dumps(asdict(trial)))
    if note.exists():
        noted = json.loads(note.read_text())
        defaults = json.loads(json.dumps(asdict(Trial("", "", ""))))  # notes of a version with fewer fields
        if defaults | noted["trial"] != wanted or noted.get("data", str(data)) != str(data):
            raise TrialError(f"{run}: holds another trial; remove it and {note}, or pass another --folder")
    else:
        noted = {
            "trial": wanted,
            "data": str(data),
            "steps": trial.steps or max(LEAST_STEPS, int(trial.seconds / pace(trial))),
        }
        run.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps(noted) + "\n")
    if not (run / "DONE").exists():
        _run(command(trial, data, run, noted["steps"]), cpus, limit_s=max(LIMIT_S, 3 * trial.seconds))
    if trial.measures is not None and not (run / "report" / "metrics.json").exists():
        tool = ["benchmarks.variants", trial.alteration] if trial.alteration else ["train"]
        _run([*tool, "evaluate", str(run), *trial.measures], cpus)
    points = read_lines(run / METRICS_FILE)
    return Result(
        wanted,
        noted["steps"],
        points[-1]["time"] - points[0]["time"],
        _parameters(run / "model"),
        {} if trial.measures is None else json.loads((run / "report" / "metrics.json").read_text()),
        points,
        run,
    )


def _parameters(model: Path) -> int:
    """Number of parameters of the encoder and the decoder."""
    from safetensors import safe_open

    total = 0
    for part in ("encoder", "decoder"):
        with safe_open(model / f"{part}.safetensors", "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
        for shape in shapes:
            size = 1
            for length in shape:
                size *= length
            total += size
    return total
