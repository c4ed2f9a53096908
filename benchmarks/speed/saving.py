"""What saving every 50 steps costs a training."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

from benchmarks.speed.support.data import make_shards
from benchmarks.speed.support.rows import Row

EVERY = 50  # steps between saves
LOGGED = 10  # steps between points of the log


def measure(folder: Path, quick: bool) -> list[Row]:
    """``python -m train vae`` with its tiny preset, saving and not, in turns; the first interval of each warms up."""
    chunks = 1024 if quick else 16384
    rounds = 1 if quick else 3
    steps = 2 * EVERY if quick else 4 * EVERY
    shards = make_shards(folder / f"set-{chunks}", chunks)
    saving, plain, stalls = [], [], []
    with tempfile.TemporaryDirectory(dir=folder) as run:
        for turn in range(rounds):
            rows = _train(shards, Path(run, f"saving-{turn}"), steps, EVERY)
            saving.append(_rate(rows))
            stalls += [row["perf/save_stall"] for row in rows if "perf/save_stall" in row]
            plain.append(_rate(_train(shards, Path(run, f"plain-{turn}"), steps, 10 * steps)))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    step = 1 / median(plain)
    return [
        Row(
            f"training with a checkpoint every {EVERY} steps against none, tiny VAE, {device}",
            median(saving),
            median(plain),
            median(a / b for a, b in zip(saving, plain, strict=True)),
            "steps/s",
            0.97,
            note=", ".join(f"{a / b:.3f}" for a, b in zip(saving, plain, strict=True)),
        ),
        Row(
            f"a training step against the stall of a save, tiny VAE, {device}",
            step * 1e3,
            median(stalls) * 1e3,
            step / median(stalls),
            "ms",
            1.0,
            note=f"longest of {len(stalls)} stalls {max(stalls) * 1e3:.1f} ms",
        ),
    ]


def _rate(rows: list[dict]) -> float:
    """Steps a second after the first interval, with all that happens between steps; the last point has measured."""
    first, last = rows[EVERY // LOGGED], rows[-2]
    return (last["step"] - first["step"]) / (last["time"] - first["time"])


def _train(shards: Path, run: Path, steps: int, every: int) -> list[dict]:
    """The points of a training."""
    command = [sys.executable, "-m", "train", "vae", "--config", "train/configs/vae_tiny.yaml"]
    command += ["--data", str(shards), "--run-dir", str(run), "--optim.steps", str(steps)]
    command += ["--tracking.every", str(LOGGED), "--tracking.evaluate_every", str(10 * steps)]
    command += ["--tracking.wandb", "disabled", "--checkpoint.every", str(every)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr[-2000:]}")
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
