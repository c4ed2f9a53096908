"""The preflight check of one attempt: processes and data, disk, W&B, and how long the run takes."""

import json
import shutil
import time

from torch.nn import Module

from shards.files import write_atomically
from shards.reading.sources.memory import available_memory
from shards.text import printable
from train.errors import TrainError
from train.optim.snapshot import Snapshot
from train.runs import checkpoint
from train.runs.forecast import warmup_warnings
from train.runs.run_folder import PREFLIGHT_FILE
from train.runs.sealed_lines import with_checksum
from train.tracking.wandb_environment import notes
from train.tracking.wandb_settings import wandb_mode
from train.training.context import Context
from train.training.preflight.disk import bytes_of, check_memory, check_room, round_trip
from train.training.preflight.goodput import advice
from train.training.preflight.outlook import job_limits, outlook, step_seconds
from train.training.preflight.processes import check_process, disagreement, exchange, summary
from train.training.preflight.wandb_server import reachable_mode


def preflight(context: Context) -> str:
    """Checks what the run needs and prints a few lines on rank 0; every process must call it.

    Returns:
        The W&B mode for this attempt (see `wandb_mode`): offline if the server does not answer. Without
        config.preflight nothing is checked, and the mode is as set.

    Raises:
        TrainError: on all processes, with the first problem.
    """
    config, engine, learner = context.config, context.engine, context.learner
    if not config.preflight:
        return wandb_mode(config.tracking.wandb)
    began = time.monotonic()
    reports = exchange(engine, check_process(engine, context.train_split))
    if problem := disagreement(reports):
        raise TrainError(f"preflight: {problem}")
    count = parameter_count(learner.model)
    compare = engine.on_main(lambda: check_memory(count, available_memory()))
    gathering = time.monotonic()
    snapshot = learner.snapshot()  # on every process: some hold only parts of the state
    stall_s = time.monotonic() - gathering
    lines, mode = engine.on_main(lambda: _check_on_main(context, snapshot, stall_s, compare))
    if engine.is_main:
        took = time.monotonic() - began
        for line in [f"{summary(reports)}, precision {engine.precision}; checked in {took:.1f} s", *lines]:
            print(printable(f"preflight: {line}"), flush=True)
    return mode


def parameter_count(model: Module) -> int:
    """Parameters of the whole model; where ZeRO has sharded it, DeepSpeed notes each one's whole size."""
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())


def _check_on_main(context: Context, snapshot: Snapshot, stall_s: float, compare: bool) -> tuple[list[str], str]:
    """What one process checks for all: returns lines to print and the W&B mode; writes preflight.json."""
    config, run, learner = context.config, context.run, context.learner
    # Leftovers of an attempt that was killed during a save must not take the room of this one.
    checkpoint.remove_unfinished(run.path / "checkpoints")
    shutil.rmtree(run.path / "preflight", ignore_errors=True)
    check_room(config, run.path / "checkpoints", bytes_of(snapshot), 0.0)  # before anything is written there
    size, save_s = round_trip(run.path, learner, snapshot, compare)
    room = check_room(config, run.path / "checkpoints", size, save_s)
    mode, wandb = reachable_mode(config)
    left_s, job_s = job_limits()
    content = {"time": round(time.time(), 3), "bytes": size, "save_s": round(save_s, 3), "job_s": job_s}
    lines = [
        room,
        advice(context.engine.world, stall_s, save_s, step_seconds(config, run), config.checkpoint.every),
        wandb,
        *(notes(run) if mode != "disabled" else []),
        *warmup_warnings(config),
        outlook(config, run, learner.step, save_s, left_s, job_s),
    ]
    if not compare:
        lines.append("warning: the checkpoint was not read back for comparison, as host memory is short; it was hashed")
    write_atomically(run.path / PREFLIGHT_FILE, json.dumps(with_checksum(content)) + "\n")
    return [line for line in lines if line], mode
