"""The share of a real training step that is spent waiting for data."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.speed.support.data import make_shards
from benchmarks.speed.support.rows import Row

EVERY = 5  # steps of one point of the log


def measure(folder: Path, quick: bool) -> list[Row]:
    """``python -m train vae`` with its tiny preset, on whatever device there is."""
    chunks = 1024 if quick else 32768
    steps = 2 * EVERY if quick else 12 * EVERY
    shards = make_shards(folder / f"set-{chunks}", chunks)
    with tempfile.TemporaryDirectory(dir=folder) as run:
        command = [sys.executable, "-m", "train", "vae", "--config", "train/configs/vae_tiny.yaml"]
        command += ["--data", str(shards), "--run-dir", f"{run}/run", "--optim.steps", str(steps)]
        command += ["--tracking.every", str(EVERY), "--checkpoint.every", str(10 * steps)]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=1800)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr[-2000:]}")
        lines = [json.loads(line) for line in Path(run, "run", "metrics.jsonl").read_text().splitlines()]
    shares = [line["perf/data_wait_share"] for line in lines if "perf/data_wait_share" in line][1:]  # the first starts
    working = 1 - sum(shares) / len(shares)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    name = f"share of a training step not spent waiting for data, tiny VAE, {device}"
    return [
        Row(name, working, 1.0, working, "of the time", 0.99, note=f"worst of {len(shares)}: {1 - max(shares):.4f}")
    ]
