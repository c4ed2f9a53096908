"""One rank of the experiments of test_parallel.py: python -m tests.train.parallel_ranks RESULT.json [STRATEGY ...].

Each strategy trains each family for some steps and saves in the middle, from where a new model resumes. Rank 0 writes
the results as a dict from "FAMILY STRATEGY" to facts.
"""

import json
import os
import sys
import typing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import audiovae
import train.parallel.engine
from shards import Batch, Cursor
from shards.chunk import HEADERS
from train.config import RUNS, DataConfig, OptimConfig
from train.optim.objective import Objective
from train.optim.snapshot import Snapshot
from train.parallel.engine import Engine
from train.training.learner import Learner, make_learner, make_objective
from train.training.meter import Meter
from train.training.step import train_step

SAMPLES, RATE, ROWS = 2205, 22050, 6
TRUNK = {"strides": [15, 7], "channels": [32, 64], "blocks": 1, "kernel": 3}
MODELS = {
    "vae": {"trunk": TRUNK, "latent": 16},
    "hvae": {
        "trunk": TRUNK,
        "level_strides": [3, 7],
        "level_channels": [48, 32],
        "latents": [16, 8, 4],
        "free_nats": [0.0, 10.0, 2.0],
        "balance_steps": 6,
    },
    "vqvae": {"trunk": TRUNK, "latent": 16, "quantizer": {"codebooks": 2, "size": 16, "start_step": 2, "decay": 0.9}},
}
# Shard parameters of any size: by default stage 3 would leave these small models whole.
PART_ALL = {"stage": 3, "stage3_param_persistence_threshold": 0}
STAGES = {"zero 1": {"stage": 1}, "zero 2": {"stage": 2}, "zero 3": PART_ALL}
OFFLOADED = {
    "zero 2 offloaded": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
    "zero 3 offloaded": {**PART_ALL, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}},
}


def launch(engine: Engine, strategy: str, folder: Path) -> None:
    """Sets the engine's launch variables as the launcher would for a strategy."""
    engine.launch = {}
    if strategy != "ddp":
        file = folder / f"deepspeed-{engine.rank}.json"
        file.write_text(json.dumps({"zero_optimization": {**STAGES, **OFFLOADED}[strategy]}))
        engine.launch = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}


def config_of(family: str, microbatch: int) -> object:
    kind = RUNS[family]
    made = kind(
        data=DataConfig("nowhere", batch=ROWS, microbatch=microbatch),
        run_dir=Path("nowhere"),
        model=audiovae.models.settings.from_dict(typing.get_type_hints(kind)["model"], MODELS[family]),
        optim=OptimConfig(lr=1e-3, steps=20, warmup_steps=2, clip=0.5, ema=0.9, explode=50.0),
    )
    if family == "hvae":
        made.weights.kl = [0.02] * 3
    return made


def batch_at(step: int, engine: Engine, spoiled: bool = False) -> Batch:
    """This rank's rows of a batch of decaying tones; if `spoiled`, rank 0's audio is NaN."""
    rng = np.random.default_rng(step)
    time = np.arange(SAMPLES) / RATE
    tones = np.sin(2 * np.pi * rng.uniform(100, 2000, (ROWS, 1)) * time) * np.exp(-5 * time)
    records = np.zeros((ROWS, HEADERS // 2 + SAMPLES), np.int16)
    records[:, HEADERS // 2 :] = (0.5 * tones * 32767).astype(np.int16)
    rows = torch.arange(ROWS)[engine.rank :: engine.world]
    batch = Batch(torch.from_numpy(records)[rows], SAMPLES, rows, rows.numpy(), Cursor(0, step), Cursor(0, step + 1))
    return SpoiledBatch(**vars(batch)) if spoiled else batch


class SpoiledBatch(Batch):
    """Rank 0's audio is not finite."""

    def on(self, device: torch.device, part: slice = slice(None)) -> Tensor:
        audio = super().on(device, part).float()
        return audio * torch.nan if 0 in self.rows.tolist() else audio


def learner_of(config: object, family: str, engine: Engine, seed: int) -> tuple[Learner, Objective]:
    torch.manual_seed(seed)
    model = audiovae.build(family, config.model, SAMPLES, RATE).to(engine.device)
    learner = make_learner(config, model, engine)
    learner.strategy.wrapped.train()
    return learner, make_objective(config, model)


def steps(config: object, engine: Engine, learner: Learner, objective: Objective, first: int, last: int) -> list[float]:
    norms = []
    for step in range(first, last):
        norms.append(float(train_step(config, engine, learner, objective, batch_at(step, engine), Meter())))
    return norms


def copied(snapshot: Snapshot) -> Snapshot:
    """A copy of a snapshot, because the next snapshot overwrites it."""
    parts = [
        {k: v.clone() for k, v in part.items()} for part in (snapshot.weights, snapshot.averages, snapshot.moments)
    ]
    discriminator = copied(snapshot.discriminator) if snapshot.discriminator else None
    return Snapshot(*parts, snapshot.updates, dict(snapshot.state), discriminator)


def everywhere(engine: Engine, snapshot: Snapshot, folder: Path) -> Snapshot:
    """Rank 0's snapshot on every process, as from a checkpoint."""
    if engine.is_main:
        copy = copied(snapshot)
        nested = {"discriminator": vars(copy.discriminator) if copy.discriminator else None}
        torch.save(vars(copy) | nested, folder / "snapshot.pt")
    engine.share(None)
    found = torch.load(folder / "snapshot.pt", weights_only=True)
    discriminator = found.pop("discriminator")
    return Snapshot(**found, discriminator=Snapshot(**discriminator) if discriminator else None)


def difference(one: Snapshot, other: Snapshot) -> float:
    """The largest difference of any weight, average or moment, in units of the largest value of its tensor."""
    worst = 0.0
    for a, b in ((one.weights, other.weights), (one.averages, other.averages), (one.moments, other.moments)):
        assert a.keys() == b.keys()
        for name in a:
            gap = (a[name].double() - b[name].double()).abs().max().item()
            worst = max(worst, gap / max(a[name].double().abs().max().item(), 1e-3))
    if one.discriminator and other.discriminator:
        worst = max(worst, difference(one.discriminator, other.discriminator))
    return worst if one.updates == other.updates else float("inf")


def experiment(engine: Engine, family: str, strategy: str, folder: Path) -> dict:
    config = config_of(family, microbatch=2)
    launch(engine, strategy, folder)
    learner, objective = learner_of(config, family, engine, seed=1)
    facts: dict = {"norms": steps(config, engine, learner, objective, 0, 4)}
    middle = everywhere(engine, learner.snapshot(), folder)
    facts["norms"] += steps(config, engine, learner, objective, 4, 7)
    end = copied(learner.snapshot())

    train_step(config, engine, learner, objective, batch_at(7, engine, spoiled=True), Meter())
    after = learner.snapshot()
    unchanged = [torch.equal(end.weights[n], after.weights[n]) for n in end.weights]
    unchanged += [torch.equal(end.moments[n], after.moments[n]) for n in end.moments]
    facts["skipped"] = all(unchanged) and after.updates == end.updates

    guard = learner.strategy.gradient_guard
    seen = guard.state
    guard.state = torch.tensor([-30.0, 100.0], device=engine.device)  # any norm is far too large
    train_step(config, engine, learner, objective, batch_at(8, engine), Meter())
    after = learner.snapshot()
    unchanged = [torch.equal(end.weights[n], after.weights[n]) for n in end.weights]
    unchanged += [torch.equal(end.moments[n], after.moments[n]) for n in end.moments]
    facts["exploded"] = all(unchanged) and after.updates == end.updates and bool(guard.exploded)
    guard.state = seen

    with learner.strategy.averaged() as model:
        audio = batch_at(0, engine).on(engine.device).unsqueeze(1).float() / 32768
        if engine.is_main:  # the other processes do not take part in this pass
            plain = audiovae.build(family, config.model, SAMPLES, RATE)
            plain.load_state_dict(after.averaged)
            facts["averaged"] = torch.equal(model.reconstruct(audio), plain.eval().reconstruct(audio))

    for name, other in (("resumed", strategy), ("taken up by ddp", "ddp")):
        launch(engine, other, folder)
        fresh, _ = learner_of(config, family, engine, seed=2)
        fresh.restore(middle)
        steps(config, engine, fresh, objective, 4, 7)
        found = fresh.snapshot()  # every process must call it
        facts[name] = difference(end, found) if engine.is_main else 0.0
    return facts


def all_experiments(engine: Engine, strategies: list[str], folder: Path) -> dict:
    """By family and strategy; without named strategies, all of them."""
    return {
        f"{family} {strategy}": experiment(engine, family, strategy, folder)
        for family in MODELS
        for strategy in strategies or ("ddp", *STAGES, *(OFFLOADED if family == "vqvae" else ()))
    }


def run_rank(measure: Callable[[Engine, list[str], Path], dict]) -> None:
    """Measures as one rank with the arguments of this script; rank 0 writes the facts. Does not return."""
    result = Path(sys.argv[1])
    train.parallel.engine.COLLECTIVE_TIMEOUT = timedelta(seconds=60)
    engine = Engine()
    facts = measure(engine, sys.argv[2:], result.parent)
    if engine.is_main:
        result.write_text(json.dumps(facts))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    run_rank(all_experiments)
