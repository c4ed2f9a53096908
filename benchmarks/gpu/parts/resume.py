"""A run that stops and resumes against one that does not, with deterministic kernels; the stall of a save."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file

from benchmarks.gpu.data import music
from benchmarks.gpu.job import Job
from benchmarks.gpu.parts.loop import new_folder
from benchmarks.gpu.rows import Notes
from benchmarks.gpu.trainer import words_of
from shards.files import read_lines
from train.process.stop_requests import STOPPED
from train.runs.run_folder import METRICS_FILE

FAMILY = "vae"
STEPS, QUICK_STEPS = 40, 6
NEAR = 1e-6
NAMES = ("whole", "stopped")
# How torch begins its warning about an operation that has no deterministic kernel.
UNDECIDED = re.compile(r"(\w+) does not have a deterministic implementation")


def measure(job: Job, notes: Notes) -> None:
    """Adds the largest difference of losses, and what a save costs."""
    shards, steps = music(job), QUICK_STEPS if job.quick else STEPS
    runs = {name: new_folder(job.folder / f"resume-{name}") for name in NAMES}
    with notes.trying("save and resume"):
        # The first attempts of both runs share the device; times are of no interest here.
        first = {name: _start(job, shards, runs[name], steps, name == "stopped") for name in NAMES}
        _wait(first["stopped"], notes, STOPPED)
        second = _start(job, shards, runs["stopped"], steps, False)
        _wait(first["whole"], notes, 0)
        _wait(second, notes, 0)
        _compare(notes, runs, _undecided(job, runs))
    with notes.trying("stall of a save"):
        rows = read_lines(runs["whole"] / METRICS_FILE)
        stalls = [row["perf/save_stall"] for row in rows if "perf/save_stall" in row]
        times = [row["time"] for row in rows if "perf/chunks_per_second" in row]
        step = median(after - before for before, after in pairwise(times))
        note = f"longest of {len(stalls)}: {1e3 * max(stalls):.1f} ms; a step takes {1e3 * step:.1f} ms"
        notes.add("stall of a save", 1e3 * median(stalls[1:] or stalls), "ms", note=note)


def _start(job: Job, shards: Path, run: Path, steps: int, stops: bool) -> subprocess.Popen:
    """An attempt that makes all steps, or half of them."""
    words = ["--optim.steps", str(steps), "--tracking.every", "1", "--preflight", "false"]
    words += ["--tracking.evaluate_every", str(steps), "--tracking.evaluate_chunks", "8"]
    words += ["--checkpoint.every", str(max(2, steps // 5)), "--checkpoint.keep", "1"]
    words += ["--stop_at", str(steps // 2 if stops else 0)]
    with open(_log(job, run), "a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.deterministic", *words_of(job, FAMILY, shards, run, *words)],
            env={**os.environ, "ACCELERATE_MIXED_PRECISION": "bf16"},
            stdout=log,
            stderr=log,
        )


def _log(job: Job, run: Path) -> Path:
    return job.folder / f"{run.name}.log"


def _wait(process: subprocess.Popen, notes: Notes, expected: int) -> None:
    code = process.wait(max(1.0, notes.left()))
    if code != expected:
        raise RuntimeError(f"an attempt ended with exit code {code}, not {expected}")


def _undecided(job: Job, runs: dict[str, Path]) -> str:
    """Operations that have no deterministic kernel, as torch named them."""
    return ", ".join(sorted({name for run in runs.values() for name in UNDECIDED.findall(_log(job, run).read_text())}))


def _compare(notes: Notes, runs: dict[str, Path], undecided: str) -> None:
    """Adds how far losses and weights of the two runs are apart."""
    losses = {
        name: {row["step"]: row["loss/total"] for row in read_lines(run / METRICS_FILE) if "loss/total" in row}
        for name, run in runs.items()
    }
    whole, stopped = losses["whole"], losses["stopped"]
    if whole.keys() != stopped.keys():
        raise RuntimeError(f"the runs logged {len(whole)} and {len(stopped)} steps")
    largest = max(abs(stopped[step] - value) / abs(value) for step, value in whole.items())
    note = f"{FAMILY}, bf16, {len(whole)} steps, one stop in the middle"
    if undecided:
        note += f"; no deterministic kernel: {undecided}"
    notes.add("losses after a resume, largest difference", largest, "of the loss", at_most=NEAR, note=note)
    one, other = (load_file(run / "model" / "model.safetensors") for run in runs.values())
    same = sum(torch.equal(one[name], other[name]) for name in one)
    notes.add("tensors of the model that are equal bit for bit", same, f"of {len(one)}")
