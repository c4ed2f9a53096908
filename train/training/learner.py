"""The state that training changes: model, averages, optimizer, step and data cursor."""

import math
import os
import shutil

import torch

from audiovae import Autoencoder
from shards import Cursor
from train.config import RunConfig
from train.errors import TrainError
from train.optim.divergence import Health
from train.optim.objective import DISTANCES, Objective
from train.optim.snapshot import HostCopies, Snapshot, discard
from train.parallel.engine import Engine
from train.parallel.factory import make_strategy
from train.parallel.strategy import Strategy
from train.training.performance.device_use import DeviceUse, flops_for_mfu


class Learner:
    """The state that training changes.

    Attributes:
        strategy: The model, its averaged weights and its optimizer on all processes.
        step: Optimizer steps done, skipped ones included.
        cursor: Position in the data at which the next step begins.
        valid_si_sdr: The last held-out SI-SDR in dB; None if it was not measured or not finite.
        unlogged: Values of this step by their names in the log, if its held-out evaluation is still to do, as at the
            start of a run or after a stop during the evaluation; else None.
        health: What the evaluations have found: whether the training has diverged, and when it was last sound.
        skipped_in_a_row: Number of skipped steps since the last one that was not, over all attempts: int64 scalar.
        device_use: What the run makes of its GPUs.
    """

    def __init__(self, strategy: Strategy, engine: Engine, flops: float | None = None) -> None:
        self.strategy = strategy
        self.step = 0
        self.cursor = Cursor()
        self.valid_si_sdr: float | None = None
        self.unlogged: dict[str, float] | None = {}
        self.health = Health()
        self.skipped_in_a_row = torch.zeros((), dtype=torch.int64, device=engine.device)
        self.device_use = DeviceUse(engine, flops)
        self._main = engine.is_main
        self._copies = HostCopies()

    @property
    def model(self) -> Autoencoder:
        """The model itself, without a wrapper for passes in several processes."""
        return self.strategy.model

    def snapshot(self) -> Snapshot:
        """The state to save; every process must call it, and only rank 0's result has content.

        It is valid until the next call, which reuses its memory.
        """
        snapshot = self.strategy.gather(self._copies.keep if self._main else discard)
        self._copies.wait()
        snapshot.state = {"step": self.step, "epoch": self.cursor.epoch, "consumed": self.cursor.consumed}
        snapshot.state["health"] = self.health.to_state()
        if self.valid_si_sdr is not None:
            snapshot.state["valid_si_sdr"] = self.valid_si_sdr
        if self.unlogged is not None:
            snapshot.state["unlogged"] = self.unlogged
        if skipped := int(self.skipped_in_a_row.item()):
            snapshot.state["skipped_in_a_row"] = skipped
        if (seconds := self.device_use.seconds) is not None:
            snapshot.state["gpu_seconds"] = round(seconds, 3)
        if self.strategy.gradient_guard.factor:
            # JSON keeps every bit of a float32.
            snapshot.state["gradient_norms"] = self.strategy.gradient_guard.state.tolist()
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Restores a saved state."""
        self.strategy.restore(snapshot)
        self.step = snapshot.state["step"]
        self.cursor = Cursor(snapshot.state["epoch"], snapshot.state["consumed"])
        self.valid_si_sdr = snapshot.state.get("valid_si_sdr")
        self.unlogged = snapshot.state.get("unlogged")
        self.health = Health.from_state(snapshot.state.get("health"), self.step)
        self.skipped_in_a_row.fill_(snapshot.state.get("skipped_in_a_row", 0))
        self.device_use.earlier_s = snapshot.state.get("gpu_seconds", 0.0)
        guard = self.strategy.gradient_guard
        guard.state = torch.tensor(snapshot.state.get("gradient_norms", [0.0, 0.0]), device=guard.state.device)


def make_learner(config: RunConfig, model: Autoencoder, engine: Engine) -> Learner:
    """Model, optimizer and averages at step 0.

    Raises:
        TrainError: when DeepSpeed or torch.compile cannot run with these settings.
    """
    counts = passes_of_ranks(config.data.batch, engine.world, config.data.microbatch)
    if engine.launch.get("ACCELERATE_USE_DEEPSPEED") == "true" and len({*counts}) > 1:
        raise TrainError(
            f"data.batch {config.data.batch} over {engine.world} processes with data.microbatch "
            f"{config.data.microbatch}: the processes would run different numbers of passes, which DeepSpeed cannot "
            f"do; choose a data.batch that is a multiple of {engine.world}"
        )
    flops = flops_for_mfu(model, make_objective(config, model), engine)
    if config.compile:
        compile_passes(model, engine)
    return Learner(make_strategy(model, engine, config.optim), engine, flops)


def make_objective(config: RunConfig, model: Autoencoder) -> Objective:
    """The weighted sum of a model's loss terms.

    Raises:
        TrainError: when a term has no weight, or a weight no term.
    """
    try:
        return Objective(config.weights, config.kl_warmup, {*DISTANCES, *model.loss_names})  # type: ignore[attr-defined]
    except ValueError as error:
        raise TrainError(str(error)) from None


def compile_passes(model: Autoencoder, engine: Engine) -> None:
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
