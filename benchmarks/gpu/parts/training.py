"""A short training of a family's default preset beside its tiny one, on generated music and on data of the user."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.data import music
from benchmarks.gpu.job import Job
from benchmarks.gpu.parts.loop import new_folder
from benchmarks.gpu.rows import Notes
from benchmarks.gpu.trainer import preset_of, words_of
from benchmarks.kl_warmup import warmup_words
from shards.files import read_lines
from train.runs.run_folder import METRICS_FILE

# Share of the time for steps: the rest is for starting, measuring and saving.
FOR_STEPS = 0.6
# Seconds before the end at which a run that is not finished is asked to stop.
STOP_S = 10.0
QUICK_STEPS = 4
LEAST_STEPS = 60
UNKNOWN_PACE = 5.0  # steps/s
PRESETS = {"default preset": "bf16", "tiny preset": "tiny preset, bf16"}


@dataclass
class Run:
    """A training under way."""

    folder: Path
    steps: int
    process: subprocess.Popen


def measure(job: Job, notes: Notes) -> None:
    """Adds what both presets reach on each data set; both train at the same time on one device."""
    sets = {"music": str(music(job))} | ({"given data": job.data} if job.data else {})
    for i, (name, shards) in enumerate(sets.items()):
        with notes.trying(name):
            until = time.monotonic() + notes.left() / (len(sets) - i)
            runs = {preset: _start(job, name, shards, preset, until) for preset in PRESETS}
            try:
                _wait(runs, until)
            finally:
                for run in runs.values():
                    run.process.kill()
                    run.process.wait()
            for preset, run in runs.items():
                with notes.trying(f"{name}, {preset}"):
                    _add(notes, f"{name}, {preset}", run)


def _start(job: Job, name: str, shards: str, preset: str, until: float) -> Run:
    """Starts a training of as many steps as fit."""
    pace = job.value(f"preset-{job.argument}", PRESETS[preset]) or UNKNOWN_PACE
    steps = QUICK_STEPS if job.quick else max(LEAST_STEPS, int(pace * FOR_STEPS * (until - time.monotonic())))
    stem = f"train-{job.argument}-{name}-{preset}".replace(" ", "-")
    folder = new_folder(job.folder / stem)
    words = ["--optim.steps", str(steps), "--preflight", "false", "--tracking.every", str(max(1, steps // 50))]
    words += ["--tracking.evaluate_every", str(max(1, steps // 4)), "--tracking.evaluate_chunks", "64"]
    words += ["--tracking.audio_every", str(10 * steps), "--checkpoint.every", str(10 * steps)]
    tiny = preset.startswith("tiny")
    words += warmup_words(preset_of(job.argument, tiny), steps)
    words += ["--optim.warmup_steps", str(min(200, steps // 10))]
    if job.argument == "vqvae":
        words += ["--model.quantizer.start_step", str(min(200, max(1, steps // 10)))]
    with open(job.folder / f"{stem}.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "train", *words_of(job, job.argument, shards, folder, *words, tiny_preset=tiny)],
            env={**os.environ, "ACCELERATE_MIXED_PRECISION": "bf16"},
            stdout=log,
            stderr=log,
        )
    return Run(folder, steps, process)


def _wait(runs: dict[str, Run], until: float) -> None:
    """Waits for the ends; shortly before the time is up, asks runs to stop and save."""
    for run in runs.values():
        try:
            run.process.wait(max(0.1, until - STOP_S - time.monotonic()))
        except subprocess.TimeoutExpired:
            if run.folder.exists():
                (run.folder / "STOP").touch()
    for run in runs.values():
        try:
            run.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            continue  # its log has what it reached


def _add(notes: Notes, name: str, run: Run) -> None:
    """Adds the last measures on held-out chunks."""
    if not (run.folder / METRICS_FILE).exists():
        raise RuntimeError(f"it logged nothing; exit code {run.process.returncode}")
    rows = read_lines(run.folder / METRICS_FILE)
    measured = [row for row in rows if "valid/si_sdr" in row]
    if not measured:
        raise RuntimeError(f"it measured nothing; exit code {run.process.returncode}")
    last, seconds = measured[-1], measured[-1]["time"] - rows[0]["time"]
    note = f"step {last['step']} of {run.steps}, {seconds:.0f} s; first {measured[0]['valid/si_sdr']:.2f} dB"
    notes.add(f"{name}: SI-SDR", last["valid/si_sdr"], "dB", note=note)
    notes.add(f"{name}: mel distance", last["valid/mel"], "", note=f"first {measured[0]['valid/mel']:.3f}")
