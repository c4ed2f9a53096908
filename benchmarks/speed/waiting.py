"""The share of a training step that is spent waiting for data."""

import tempfile
from pathlib import Path

from benchmarks.speed.support.data import make_shards
from benchmarks.speed.support.rows import Row
from benchmarks.speed.support.training import device_name, train_tiny

EVERY = 5  # steps between points of the log


def measure(folder: Path, quick: bool) -> list[Row]:
    """Trains the tiny VAE and reads the waiting times from its log."""
    chunks = 1024 if quick else 32768
    steps = 2 * EVERY if quick else 12 * EVERY
    shards = make_shards(folder / f"set-{chunks}", chunks)
    with tempfile.TemporaryDirectory(dir=folder) as run:
        lines = train_tiny(shards, Path(run, "run"), steps, tracking__every=EVERY, checkpoint__every=10 * steps)
    # The first point includes the start of the program.
    shares = [line["perf/data_wait_share"] for line in lines if "perf/data_wait_share" in line][1:]
    working = 1 - sum(shares) / len(shares)
    name = f"share of a training step not spent waiting for data, tiny VAE, {device_name()}"
    return [
        Row(name, working, 1.0, working, "of the time", 0.99, note=f"worst of {len(shares)}: {1 - max(shares):.4f}")
    ]
