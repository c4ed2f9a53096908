"""The cost of a checkpoint every 50 steps in training."""

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.speed.support.data import make_shards
from benchmarks.speed.support.rows import Row
from benchmarks.speed.support.training import device_name, train_tiny

EVERY = 50  # steps between saves
LOGGED = 10  # steps between points of the log


def measure(folder: Path, quick: bool) -> list[Row]:
    """Trains the tiny VAE with and without checkpoints in turns; the first interval of each run is not measured."""
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
    device, step = device_name(), 1 / median(plain)
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
    """Steps per second after the first interval, up to the last point but one, which precedes the final evaluation."""
    first, last = rows[EVERY // LOGGED], rows[-2]
    return (last["step"] - first["step"]) / (last["time"] - first["time"])


def _train(shards: Path, run: Path, steps: int, every: int) -> list[dict]:
    """The rows of a training that saves every so many steps."""
    return train_tiny(
        shards,
        run,
        steps,
        tracking__every=LOGGED,
        tracking__evaluate_every=10 * steps,
        tracking__wandb="disabled",
        checkpoint__every=every,
    )
