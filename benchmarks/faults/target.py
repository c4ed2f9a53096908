"""The run under faults: tiny data, a tiny model with every kind of state, and the real command."""

import os
import sys
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.faults.plan import EVERY
from shards import Manifest
from shards.building.build import build

ROOT = Path(__file__).parents[2]
RATE = 22050
SAMPLES = 2205
BATCH = 6
PROCESSES = 2
# Environment variable that marks all processes of an attempt, including those that outlive their parents.
MARK = "FAULTS_ATTEMPT"

SETTINGS = {
    "data.batch": BATCH,
    "optim.warmup_steps": 2,
    "kl_warmup.steps": 4,
    "tracking.every": 1,
    "tracking.evaluate_every": 100,
    "tracking.audio_every": 10**6,
    "tracking.samples": "true",
    "checkpoint.every": EVERY,
    "watchdog_s": 120,
    "model.trunk.strides": "[21,5]",
    "model.trunk.channels": "[24,24]",
    "model.trunk.blocks": 1,
    "model.latent": 8,
    "model.quantizer.codebooks": 2,
    "model.quantizer.size": 16,
    "model.quantizer.start_step": 2,
    # All but the first steps are in the adversarial phase, and codebooks and encoder move there, too.
    "adversarial.start": EVERY,
    "adversarial.windows": "[256,64]",
    "adversarial.filters": 2,
    "adversarial.lead": 2,
    "adversarial.ramp": 50,
    "adversarial.freeze": "false",
}


def make_data(folder: Path) -> Path:
    """Builds shards of decaying chords: 90 training chunks, 15 steps per epoch, and 30 held-out chunks."""
    audio = folder / "audio"
    audio.mkdir(parents=True)
    rng = np.random.default_rng(0)
    t = np.arange(3 * RATE) / RATE
    for k in range(4):
        tones = [np.sin(2 * np.pi * pitch * t) for pitch in rng.uniform(200, 800, 3)]
        soundfile.write(audio / f"{k}.wav", 0.2 * np.exp(-4 * (t % 0.25)) * np.sum(tones, axis=0), RATE)
    build(audio, folder / "data", samples=SAMPLES, hop=SAMPLES, valid=0.25, workers=1)
    return folder / "data"


def training_chunks(data: Path) -> int:
    """Chunks of an epoch."""
    return Manifest.load(data).chunks("train")


def command(data: Path, run: Path, steps: int, wandb: str) -> list[str]:
    """The command that trains on two processes under the launcher, as a user would start it."""
    settings = {"data": data, "run-dir": run, "optim.steps": steps, "tracking.wandb": wandb, **SETTINGS}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    machine = ["--config_file", str(ROOT / "accelerate_config.yaml"), "--num_processes", str(PROCESSES)]
    return [sys.executable, "-m", "accelerate.commands.launch", *machine, "-m", "train", "vqvae", *words]


def environment(mark: str) -> dict[str, str]:
    """The environment of an attempt, without variables of W&B or of another launcher."""
    foreign = ("WANDB", "TORCHELASTIC", "ACCELERATE", "RANK", "LOCAL_RANK", "WORLD_SIZE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return {**kept, "PYTHONPATH": str(ROOT), MARK: mark}
