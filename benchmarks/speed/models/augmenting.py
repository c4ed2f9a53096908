"""Windows and augmentation: what they cost the reader and a training step, in turns in one process."""

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.support.data import make_shards
from benchmarks.speed.support.rows import Row
from benchmarks.speed.support.training import ROOT
from benchmarks.speed.support.trial import in_new_process

BATCH, RATE = 64, 22_050
CROP = 7350  # a third of a chunk
KINDS = ("windows of a third", "all changes", "both")


def measure(folder: Path, quick: bool) -> list[Row]:
    """Batches as float32 on the CPU, and steps of the tiny VAE on them, with and without."""
    chunks, batches, rounds = (256, 2, 2) if quick else (4096, 40, 9)
    shards = make_shards(folder / f"set-{chunks}", chunks)
    plain, *read = in_new_process(_reading, shards, batches, rounds)
    rows = [
        Row(
            f"reading into float32: {kind} against whole chunks of 1 s, batch {BATCH}, CPU",
            BATCH * batches / min(spent),
            BATCH * batches / min(plain),
            min(plain) / min(spent),
            "chunks a second of processor time",
            0.9 if kind == KINDS[0] else None,
            note=f"median of {len(spent)} rounds {median(a / b for a, b in zip(plain, spent, strict=True)):.2f}",
        )
        for kind, spent in zip(KINDS, read, strict=True)
    ]
    plain, changed = in_new_process(_steps, shards, folder / "run", 2 if quick else 16, 2 if quick else 6)
    ratio = median(a / b for a, b in zip(plain, changed, strict=True))
    name = "a step of the tiny VAE with all changes against one without, batch 16, CPU"
    ours, other = min(changed) * 1e3, min(plain) * 1e3
    note = f"median of {len(plain)} rounds {ratio:.2f}"
    return [*rows, Row(name, ours, other, other / ours, "ms of processor time", 0.9, note=note)]


def _preparations(split: Any) -> list[Any]:
    """Nothing, then each of KINDS."""
    from train.augment.preparation import Preparation
    from train.augment.settings import AUGMENTATIONS, OF_STEREO, AugmentConfig

    off, on = AugmentConfig(), AugmentConfig(**dict.fromkeys(set(AUGMENTATIONS) - set(OF_STEREO), 0.5))
    return [Preparation(augment, crop, 0, split) for augment, crop in ((off, 0), (off, CROP), (on, 0), (on, CROP))]


def _reading(shards: Path, batches: int, rounds: int) -> list[list[float]]:
    """Processor seconds of some batches, of each kind; the first round is left out."""
    sys.path.insert(0, str(ROOT))
    import torch

    from shards import BatchStream, Split

    torch.set_num_threads(1)
    split, device = Split.open(shards, "train"), torch.device("cpu")
    kinds = _preparations(split)
    spent: list[list[float]] = [[] for _ in kinds]
    with BatchStream(split, BATCH, 0) as stream, BatchStream(split, BATCH, 1) as others:
        for done in range(rounds + 1):
            for taken, preparation in zip(spent, kinds, strict=True):
                begin = time.process_time()
                for _ in range(batches):
                    other = next(others) if preparation.augment.mix else None
                    preparation.audio(next(stream), other, done, device)
                taken.append(time.process_time() - begin)
    return [taken[1:] for taken in spent]


def _steps(shards: Path, run: Path, batch: int, rounds: int) -> list[list[float]]:
    """Processor seconds of the steps without changes and with all of them; the first round is left out."""
    sys.path.insert(0, str(ROOT))
    import torch

    import audiovae
    from shards import BatchStream, Split
    from train.cli.parser import parse
    from train.parallel.engine import Engine
    from train.training.learner import make_learner, make_objective
    from train.training.meter import Meter
    from train.training.step import train_step

    torch.set_num_threads(1)
    words = ["vae", "--config", str(ROOT / "train/configs/vae_tiny.yaml"), "--data", str(shards), "--run-dir", str(run)]
    _, config = parse([*words, "--data.batch", str(batch)])
    split, engine = Split.open(shards, "train"), Engine()
    learner = make_learner(config, audiovae.build("vae", config.model, split.samples, RATE), engine)
    learner.strategy.wrapped.train()
    objective = make_objective(config, learner.model)
    off, _, on, _ = _preparations(split)
    spent: list[list[float]] = [[], []]
    with BatchStream(split, batch, 0) as stream, BatchStream(split, batch, 1) as others:
        for _ in range(rounds + 1):
            for taken, preparation in zip(spent, (off, on), strict=True):
                begin = time.process_time()
                other = next(others) if preparation.augment.mix else None

                def prepare(rows: Any, device: Any, part: slice, made: Any = preparation, mixed: Any = other) -> Any:
                    return made.audio(rows, mixed, learner.step, device, part)

                train_step(config, engine, learner, objective, next(stream), Meter(), prepare)
                taken.append(time.process_time() - begin)
    return [taken[1:] for taken in spent]
