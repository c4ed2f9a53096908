"""A step of the training loop against a bare one: forward, losses, backward and AdamW on the same batch."""

import copy
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.support.data import make_shards
from benchmarks.speed.support.rows import Row
from benchmarks.speed.support.training import ROOT
from benchmarks.speed.support.trial import in_new_process

SKIPPED = 3  # first steps


def measure(folder: Path, quick: bool) -> list[Row]:
    """Trains the tiny VAE and, after each step of the loop, takes a bare step with a copy of the model."""
    chunks = 64 if quick else 1024
    shards = make_shards(folder / f"set-{chunks}", chunks)
    with tempfile.TemporaryDirectory(dir=folder) as run:
        # Processor seconds, as other programs share the machine. A step of the loop ends where the next one begins.
        loop, bare = in_new_process(_both, shards, Path(run, "run"), SKIPPED + (3 if quick else 20))
    ratios = [two / one for one, two in zip(loop, bare, strict=True)]
    return [
        Row(
            "a bare step against a step of the loop, tiny VAE, CPU",
            # The fastest of each: what other programs do to caches and clocks only adds time.
            min(loop) * 1e3,
            min(bare) * 1e3,
            min(bare) / min(loop),
            "ms of processor time",
            0.98,
            note=f"median of {len(ratios)} pairs {median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}",
        )
    ]


def _both(shards: Path, run: Path, steps: int) -> tuple[list[float], list[float]]:
    """Processor seconds of the steps of the loop, and of bare steps in between."""
    sys.path.insert(0, str(ROOT))
    import torch

    from train.__main__ import run as command
    from train.training import loop

    torch.set_num_threads(1)
    true_step = loop.train_step
    spent: list[float] = []
    bare: list[float] = []
    state: dict[str, Any] = {}

    def step(config, engine, learner, objective, batch, meter, prepare):
        begin = time.process_time()
        if "end" in state:
            spent.append(state["work"] + begin - state["end"])
        result = true_step(config, engine, learner, objective, batch, meter, prepare)
        between = time.process_time()
        if "model" not in state:
            state["model"] = copy.deepcopy(learner.model)
            state["optimizer"] = torch.optim.AdamW(state["model"].parameters(), lr=1e-5, fused=True)
        _bare_step(state["model"], state["optimizer"], objective, batch, learner.step)
        state["end"] = time.process_time()
        bare.append(state["end"] - between)
        state["work"] = between - begin
        return result

    loop.train_step = step
    words = ["vae", "--config", str(ROOT / "train/configs/vae_tiny.yaml"), "--data", str(shards)]
    words += ["--run-dir", str(run), "--optim.steps", str(steps), "--preflight", "false"]
    words += ["--optim.warmup_steps", "1", "--tracking.wandb", "disabled", "--checkpoint.every", "100000"]
    if code := command(words):
        raise RuntimeError(f"the training ended with code {code}")
    return spent[SKIPPED:], bare[SKIPPED : len(spent)]


def _bare_step(model, optimizer, objective, batch, step) -> None:
    """What any training must do."""
    audio = batch.audio.unsqueeze(1).float() / 32768
    target = model.represent(audio)
    output = model(target)
    terms = model.distances(output.recon, target) | output.losses
    objective(terms, objective.weights_at(step)).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
