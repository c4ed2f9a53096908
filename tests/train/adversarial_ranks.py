"""One rank of test_adversarial_strategies.py: python -m tests.train.adversarial_ranks RESULT.json [STRATEGY ...].

Each strategy trains a model past the start of its adversarial phase. Rank 0 writes the results as a dict from strategy
to facts.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import audiovae
from tests.train.parallel_ranks import (
    RATE,
    SAMPLES,
    STAGES,
    batch_at,
    config_of,
    copied,
    difference,
    everywhere,
    launch,
    run_rank,
    steps,
)
from train.adversarial.settings import AdversarialConfig
from train.config import RunConfig
from train.optim.snapshot import Snapshot
from train.parallel.engine import Engine
from train.training.learner import Learner, begin_phase, make_learner, make_objective
from train.training.meter import Meter
from train.training.step import train_step

START, MIDDLE, END = 2, 4, 6
# Weights far above the defaults, so that a wrong gradient of the terms is far from a right one.
PHASE = AdversarialConfig(
    start=START, windows=[256, 64], periods=[3], filters=2, weight=1.0, feature_weight=1.0, lead=1, ramp=2, rate=1e-3
)


def learner_at(step: int, config: RunConfig, engine: Engine, seed: int) -> Learner:
    torch.manual_seed(seed)
    model = audiovae.build("vae", config.model, SAMPLES, RATE).to(engine.device)  # type: ignore[attr-defined]
    learner = make_learner(config, model, engine, step)
    learner.strategy.wrapped.train()
    return learner


def restored(snapshot: Snapshot, config: RunConfig, engine: Engine) -> Learner:
    """Other weights at first, then the state of the snapshot."""
    learner = learner_at(snapshot.state["step"], config, engine, seed=2)
    learner.restore(snapshot)
    return learner


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def unchanged(one: Snapshot, other: Snapshot) -> bool:
    """Whether neither player has moved."""
    mine, other_mine = one.discriminator, other.discriminator
    assert mine
    assert other_mine
    pairs = [(one, other), (mine, other_mine)]
    return all(same(a.weights, b.weights) and same(a.moments, b.moments) and a.updates == b.updates for a, b in pairs)


def experiment(engine: Engine, strategy: str, folder: Path) -> dict:
    config = config_of("vae", microbatch=2)
    config.adversarial = PHASE
    objective = make_objective(config, learner_at(0, config, engine, 1).model)
    launch(engine, strategy, folder)
    learner = learner_at(0, config, engine, seed=1)
    facts: dict = {"norms": steps(config, engine, learner, objective, 0, START)}
    before = everywhere(engine, learner.snapshot(), folder)
    begin_phase(config, engine, learner)
    facts["norms"] += steps(config, engine, learner, objective, START, MIDDLE)
    facts["discriminator norm"] = float(learner.adversary.norm)
    middle = everywhere(engine, learner.snapshot(), folder)
    facts["norms"] += steps(config, engine, learner, objective, MIDDLE, END)
    end = copied(learner.snapshot())

    skipped = {"not finite": None, "of the model": learner.strategy.gradient_guard}
    skipped["of the discriminator"] = learner.adversary._player.gradient_guard
    for name, guard in skipped.items():
        if guard:
            seen, guard.state = guard.state, torch.tensor([-30.0, 100.0])  # any norm is far too large
        train_step(config, engine, learner, objective, batch_at(END, engine, spoiled=not guard), Meter())
        after = copied(learner.snapshot())
        facts[f"skipped: {name}"] = unchanged(end, after) if engine.is_main else True
        if guard:
            guard.state = seen

    for name, other, snapshot in (
        ("begun by a resume", strategy, before),
        ("resumed", strategy, middle),
        ("taken up by ddp", "ddp", middle),
    ):
        launch(engine, other, folder)
        fresh = restored(snapshot, config, engine)
        steps(config, engine, fresh, objective, fresh.step, END)
        found = fresh.snapshot()  # every process must call it
        facts[name] = difference(end, found) if engine.is_main else 0.0
    return facts


def all_experiments(engine: Engine, strategies: list[str], folder: Path) -> dict:
    """By strategy; without named strategies, all of them."""
    return {name: experiment(engine, name, folder) for name in strategies or ("ddp", *STAGES)}


if __name__ == "__main__":
    run_rank(all_experiments)
