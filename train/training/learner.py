"""The state that training changes: model, averages, optimizer, step and data cursor."""

import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from audiovae.models.parts import freeze_all_but
from audiovae.trainable import Trainable
from shards import Cursor
from shards.files import is_whole
from shards.mixing.mixture import Mixture
from train.config import RunConfig
from train.errors import TrainError
from train.optim.divergence import Health
from train.optim.objective import Objective
from train.optim.ranking import OLDER, VALUES, Patience, held_out
from train.optim.snapshot import HostCopies, Settled, Snapshot, discard
from train.parallel.adversary import Adversary, NoAdversary, check_phase
from train.parallel.engine import Engine
from train.parallel.factory import make_strategy
from train.parallel.sharing import shared_snapshot
from train.parallel.strategy import Strategy
from train.training.performance.device_use import DeviceUse, flops_for_mfu
from train.training.start_weights import freeze_parts


class Learner:
    """The state that training changes.

    Attributes:
        strategy: The model, its averaged weights and its optimizer on all processes.
        adversary: The discriminator and its optimizer in the adversarial phase.
        step: Optimizer steps done, skipped ones included.
        cursor: Position in the data at which the next step begins.
        mixture: The shares of several data sets, in which the cursor counts; None for one set.
        valid: The last held-out values by measure, those that are finite.
        patience: How long ago the best value of the measure of `until` was.
        unlogged: Values of this step by their names in the log, if its held-out evaluation is still to do, as at the
            start of a run or after a stop during the evaluation; else None.
        health: What the evaluations have found: whether the training has diverged, and when it was last sound.
        skipped_in_a_row: Number of skipped steps since the last one that was not, over all attempts: int64 scalar.
        device_use: What the run makes of its GPUs.
        first_discriminator: Weights with which the discriminator begins; None for random ones.
    """

    first_discriminator: Mapping[str, Tensor] | None = None

    def __init__(self, strategy: Strategy, adversary: NoAdversary, engine: Engine, flops: float | None = None) -> None:
        self.strategy, self.adversary = strategy, adversary
        self.step = 0
        self.cursor = Cursor()
        self.mixture: Mixture | None = None
        self.valid: dict[str, float] = {}
        self.patience = Patience()
        self.unlogged: dict[str, float] | None = {}
        self.health = Health()
        self.skipped_in_a_row = torch.zeros((), dtype=torch.int64, device=engine.device)
        self.device_use = DeviceUse(engine, flops)
        self._main = engine.is_main
        self._copies = HostCopies()

    @property
    def model(self) -> Trainable:
        """The model itself, without a wrapper for passes in several processes."""
        return self.strategy.model

    def snapshot(self) -> Snapshot:
        """The state to save; every process must call it, and only rank 0's result has content.

        It is valid until the next call, which reuses its memory.
        """
        keep = self._copies.keep if self._main else discard
        snapshot = self.strategy.gather(keep)
        snapshot.discriminator = self.adversary.gather(keep)
        self._copies.wait()
        snapshot.state = {"step": self.step, "epoch": self.cursor.epoch, "consumed": self.cursor.consumed}
        if self.mixture:
            snapshot.state["mixture"] = self.mixture.to_json()
        snapshot.state["health"] = self.health.to_state()
        if self.valid:
            snapshot.state[VALUES] = dict(self.valid)
        if "si_sdr" in self.valid:  # all that older versions look for
            snapshot.state[OLDER] = self.valid["si_sdr"]
        if self.patience.measure:
            snapshot.state["patience"] = self.patience.to_state()
        if self.unlogged is not None:
            snapshot.state["unlogged"] = self.unlogged
        if skipped := int(self.skipped_in_a_row.item()):
            snapshot.state["skipped_in_a_row"] = skipped
        if (seconds := self.device_use.seconds) is not None:
            snapshot.state["gpu_seconds"] = round(seconds, 3)
        if self.strategy.gradient_guard.factor:
            # JSON keeps every bit of a float32.
            snapshot.state["gradient_norms"] = self.strategy.gradient_guard.state.tolist()
            if norms := self.adversary.norms:
                snapshot.state["discriminator_gradient_norms"] = norms
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Restores a saved state."""
        self._restore_players(snapshot)
        self.step = snapshot.state["step"]
        self.cursor, self.mixture = cursor_of(snapshot.state), mixture_of(snapshot.state)
        self.valid = held_out(snapshot.state)
        self.patience = Patience.from_state(snapshot.state.get("patience"))
        self.unlogged = snapshot.state.get("unlogged")
        self.health = Health.from_state(snapshot.state.get("health"), self.step)
        self.skipped_in_a_row.fill_(snapshot.state.get("skipped_in_a_row", 0))
        self.device_use.earlier_s = snapshot.state.get("gpu_seconds", 0.0)

    def replace_players(self, strategy: Strategy, adversary: NoAdversary, snapshot: Snapshot) -> None:
        """Goes on with other players in the state of a snapshot of this step."""
        self.strategy.close()
        self.strategy, self.adversary = strategy, adversary
        self._restore_players(snapshot)

    def _restore_players(self, snapshot: Snapshot) -> None:
        frozen = [name for name, parameter in self.model.named_parameters() if not parameter.requires_grad]
        self.strategy.restore(replace(snapshot, weights=Settled(snapshot.weights, snapshot.averages, frozen)))
        guard = self.strategy.gradient_guard
        guard.state = torch.tensor(snapshot.state.get("gradient_norms", [0.0, 0.0]), device=guard.state.device)
        norms = snapshot.state.get("discriminator_gradient_norms", [])
        self.adversary.restore(snapshot.discriminator, norms, snapshot.state["step"])


def cursor_of(state: Mapping[str, Any]) -> Cursor:
    """The place in the data in a saved state; raises TrainError where there is none."""
    if not all(is_whole(state.get(name)) for name in ("epoch", "consumed")):
        raise unusable("its state has no place in the data")
    return Cursor(state["epoch"], state["consumed"])


def mixture_of(state: Mapping[str, Any]) -> Mixture | None:
    """The shares of several data sets in a saved state; raises TrainError where they cannot be."""
    if "mixture" not in state:
        return None
    try:
        return Mixture.from_json(state["mixture"])
    except ValueError as error:
        raise unusable(str(error)) from None


def unusable(what: str) -> TrainError:
    """The error for a saved state that nothing can resume from."""
    return TrainError(f"the newest checkpoint cannot be used: {what}; move it away to resume from an older one")


def make_learner(
    config: RunConfig,
    model: Trainable,
    engine: Engine,
    step: int = 0,
    first_discriminator: Mapping[str, Tensor] | None = None,
) -> Learner:
    """Model, optimizer and averages at step 0.

    Args:
        config: The run's settings.
        model: The model on the device; `optim.freeze` and the adversarial phase freeze parts of it.
        engine: The processes.
        step: The step whose state is restored next, which decides on the players.
        first_discriminator: Weights with which the discriminator begins; None for random ones.

    Raises:
        TrainError: when DeepSpeed, torch.compile or the discriminator cannot run with these settings.
    """
    counts = passes_of_ranks(config.data.batch, engine.world, config.data.microbatch)
    if engine.launch.get("ACCELERATE_USE_DEEPSPEED") == "true" and len({*counts}) > 1:
        raise TrainError(
            f"data.batch {config.data.batch} over {engine.world} processes with data.microbatch "
            f"{config.data.microbatch}: the processes would run different numbers of passes, which DeepSpeed cannot "
            f"do; choose a data.batch that is a multiple of {engine.world}"
        )
    # The discriminator's FLOPs are not counted, and so there is no utilisation in its phase.
    flops = None if in_phase(config, step) else flops_for_mfu(model, make_objective(config, model), engine)
    learner = Learner(*_players(config, model, engine, step, first_discriminator), engine, flops)
    learner.first_discriminator = first_discriminator
    return learner


def in_phase(config: RunConfig, step: int) -> bool:
    """Whether the step after `step` steps belongs to the adversarial phase: a pure function of the settings."""
    return config.phase_start is not None and step >= config.phase_start


def _players(
    config: RunConfig, model: Trainable, engine: Engine, step: int, first: Mapping[str, Tensor] | None
) -> tuple[Strategy, NoAdversary]:
    """The model's player and its adversary for the phase of a step."""
    freeze_parts(config.optim, model)
    if config.phase_start is not None:  # also long before the phase: what cannot begin is said at once
        check_phase(config, model)
    adversary = NoAdversary(engine)
    if in_phase(config, step):
        adversary = Adversary(config, engine, model, first)
        if config.adversarial.freeze:
            freeze_all_but(model, model.synthesis)
    if config.compile:
        compile_passes(model, engine)
    return make_strategy(model, engine, config.optim), adversary


def begin_phase(config: RunConfig, engine: Engine, learner: Learner) -> None:
    """Makes the players of the adversarial phase, just as a resume from a checkpoint of this step does.

    Every process must call it. The snapshot before must be written, as this one reuses its memory.
    """
    snapshot = learner.snapshot()
    shared = shared_snapshot(engine, snapshot if engine.is_main else None)
    # Frozen weights need another wrapper, and a model that ZeRO has sharded cannot be wrapped again.
    old = learner.model
    model = old.unloaded().to(engine.device)
    model.level = old.level
    learner.replace_players(*_players(config, model, engine, learner.step, learner.first_discriminator), shared)
    learner.strategy.wrapped.train()
    learner.device_use.flops = None


def make_objective(config: RunConfig, model: Trainable) -> Objective:
    """The weighted sum of a model's loss terms.

    Raises:
        TrainError: when a term has no weight, or a weight no term.
    """
    try:
        terms = {*model.distance_names, *model.loss_names}
        return Objective(config.weights, config.kl_warmup, terms)  # type: ignore[attr-defined]
    except ValueError as error:
        raise TrainError(str(error)) from None


def compile_passes(model: Trainable, engine: Engine) -> None:
    """Compiles the model's training pass in place. Names of weights and all other methods stay the same.

    Raises:
        TrainError: without a compiler, or with DeepSpeed, whose module hooks torch.compile does not trace.
    """
    if engine.launch.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise TrainError("compile does not work with DeepSpeed: leave out --compile or --use_deepspeed")
    # Inductor writes C++ for the host; Triton, for GPUs, builds its launchers from C.
    needed = {"C++": ("CXX", "g++", "clang++")}
    if engine.device.type == "cuda":
        needed["C"] = ("CC", "gcc", "clang")
    for language, (variable, *usual) in needed.items():
        wanted = os.environ.get(variable) or usual[0]
        if not any(map(shutil.which, {wanted, *usual})):
            raise TrainError(
                f"compile needs a {language} compiler, and there is no {wanted}: install {usual[0]}, "
                "or leave out --compile"
            )
    model.compile()


def passes_of_ranks(batch: int, world: int, largest: int) -> list[int]:
    """Passes that each rank runs in a step, in micro-batches of at most `largest` chunks (0: one micro-batch)."""
    shares = [len(range(rank, batch, world)) for rank in range(world)]
    return [math.ceil(share / (largest or max(share, 1))) for share in shares]
