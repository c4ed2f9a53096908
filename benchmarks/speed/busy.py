"""How much a training thread slows down while batches are delivered to it."""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.speed.disk import large_set
from benchmarks.speed.support.data import make_shards
from benchmarks.speed.support.rows import Row, compare, skipped
from benchmarks.speed.support.trial import Trial, Unavailable, in_new_process, use

PACE = 10_000  # chunks per second to deliver
UNIT = "steps/s"


@dataclass(frozen=True)
class Speed:
    """Rates per second of the training thread and of the delivery."""

    steps: float
    chunks: float


def measure(folder: Path, quick: bool) -> list[Row]:
    """Runs the thread alone, with our reader from memory and from disk, and with webdataset, in turns."""
    chunks = 1024 if quick else 32768
    shards = make_shards(folder / f"set-{chunks}", chunks)
    large, memory, note = large_set(folder, quick)
    short = {"seconds": 0.3 if quick else 4.0, "batch": 64 if quick else 256}
    contenders: dict[str, tuple[Trial, float | None]] = {
        "our reader from memory": (Trial("ours", shards, warm=2 * chunks, **short), 0.85),
        f"our reader from disk ({note})": (
            Trial("ours", large, {"memory": memory}, warm=512 if quick else 65536, **short),
            None,
        ),
    }
    for workers in (0,) if quick else (0, 2):
        trial = Trial("webdataset_tuned", shards, {"workers": workers}, warm=chunks // 8, **short)
        contenders[f"webdataset, tuned, {workers} workers"] = trial, None
    alone: list[float] = []
    found: dict[str, list[Speed]] = {name: [] for name in contenders}
    missing: dict[str, str] = {}
    for _ in range(1 if quick else 7):
        alone.append(in_new_process(_train, None, short["seconds"]).steps)
        for name, (trial, _) in contenders.items():
            try:
                found[name].append(in_new_process(_train, trial, short["seconds"]))
            except Unavailable as why:
                missing[name] = str(why)
    rows = []
    for name, (_, target) in contenders.items():
        title = f"training thread next to {name}, compared with alone"
        if name in missing:
            rows.append(skipped(title, UNIT, missing[name], target))
            continue
        steps, rate = (median(getattr(speed, key) for speed in found[name]) for key in ("steps", "chunks"))
        rows.append(compare(title, steps, median(alone), UNIT, target, note=f"{rate:,.0f} chunks/s delivered"))
    return rows


def _train(trial: Trial | None, seconds: float) -> Speed:
    """Runs small training steps on one core, and takes a batch whenever PACE requires one."""
    torch.set_num_threads(1)
    step = _make_step()
    with trial.batches() if trial else nullcontext() as batches:
        due = 0.0 if trial else math.inf
        for _ in range(50):
            step()
        steps = chunks = 0
        begin = time.perf_counter()
        while (now := time.perf_counter() - begin) < seconds:
            if now >= due:
                chunks += use(next(batches))
                due = chunks / PACE
            else:
                step()
                steps += 1
        passed = time.perf_counter() - begin
    return Speed(steps / passed, chunks / passed)


def _make_step():
    """A training step of a small network: about sixty small operations in half a millisecond."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[layer for _ in range(4) for layer in (torch.nn.Linear(128, 128), torch.nn.GELU())])
    weights = list(model.parameters())
    data = torch.randn(64, 128)

    def step() -> None:
        loss = (model(data) - data).square().mean()
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 1e-3 * gradient

    return step
