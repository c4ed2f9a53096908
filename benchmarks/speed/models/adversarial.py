"""A step of the adversarial phase against one without it, in turns on the same batch."""

import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.speed.support.rows import Row
from benchmarks.speed.support.training import ROOT
from benchmarks.speed.support.trial import in_new_process

FILTERS = (8, 32)
SAMPLES, RATE = 22_050, 22_050


def measure(folder: Path, quick: bool) -> list[Row]:
    """Steps of the tiny VAE: as before the phase, and in it with two sizes of the discriminator."""
    batch = 2 if quick else 16
    plain, *phases = in_new_process(_steps, folder / "run", batch, 2 if quick else 6)
    return [
        Row(
            f"a step of the adversarial phase, {filters} filters, against one before it, tiny VAE, batch {batch}, CPU",
            # The fastest of each: what other programs do to caches and clocks only adds time.
            min(spent) * 1e3,
            min(plain) * 1e3,
            min(spent) / min(plain),
            "ms of processor time",
            None,
            note=f"median of {len(spent)} rounds {median(a / b for a, b in zip(spent, plain, strict=True)):.2f}",
        )
        for filters, spent in zip(FILTERS, phases, strict=True)
    ]


def _steps(run: Path, batch: int, rounds: int) -> list[list[float]]:
    """Processor seconds of the steps of each kind; the first round is left out."""
    sys.path.insert(0, str(ROOT))
    import torch

    import audiovae
    from shards import Batch, Cursor
    from shards.chunk import HEADERS
    from train.cli.parser import parse
    from train.parallel.engine import Engine
    from train.training.learner import make_learner, make_objective
    from train.training.meter import Meter
    from train.training.step import train_step

    torch.set_num_threads(1)
    records = np.zeros((batch, HEADERS // 2 + SAMPLES), np.int16)
    records[:, HEADERS // 2 :] = np.random.default_rng(0).normal(0, 3000, (batch, SAMPLES))
    rows = torch.arange(batch)
    chunks = Batch(torch.from_numpy(records), SAMPLES, rows, rows.numpy(), Cursor(0, 0), Cursor(0, batch))
    engine = Engine()
    players = []
    for filters in (0, *FILTERS):
        words = ["vae", "--config", str(ROOT / "train/configs/vae_tiny.yaml"), "--data", "none", "--run-dir", str(run)]
        words += ["--data.batch", str(batch)]
        if filters:
            words += ["--adversarial.start", "1", "--adversarial.lead", "0", "--adversarial.filters", str(filters)]
        _, config = parse(words)
        learner = make_learner(config, audiovae.build("vae", config.model, SAMPLES, RATE), engine, 1)
        learner.step = 1
        learner.strategy.wrapped.train()
        players.append((config, learner, make_objective(config, learner.model)))
    spent: list[list[float]] = [[] for _ in players]
    for _ in range(rounds + 1):
        for taken, (config, learner, objective) in zip(spent, players, strict=True):
            begin = time.process_time()
            train_step(config, engine, learner, objective, chunks, Meter())
            taken.append(time.process_time() - begin)
    return [taken[1:] for taken in spent]
