"""A short training of the tiny VAE with the real command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[3]
LIMIT_S = 1800


def train_tiny(shards: Path, run: Path, steps: int, **settings: Any) -> list[dict[str, Any]]:
    """Trains for some steps on the device that the command chooses; returns the rows of metrics.jsonl.

    Args:
        shards: The data folder.
        run: The new run folder.
        steps: Optimizer steps.
        **settings: Further settings; a double underscore stands for a dot.

    Raises:
        RuntimeError: if the command fails.
    """
    command = [sys.executable, "-m", "train", "vae", "--config", "train/configs/vae_tiny.yaml"]
    command += ["--data", str(shards), "--run-dir", str(run), "--optim.steps", str(steps)]
    for name, value in settings.items():
        command += [f"--{name.replace('__', '.')}", str(value)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr[-2000:]}")
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def device_name() -> str:
    """The GPU's name, or CPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
