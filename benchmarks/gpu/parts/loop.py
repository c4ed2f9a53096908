"""The training loop against bare steps; the host's time a step; waits for the device."""

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from audiovae import Noise
from benchmarks.gpu.data import music
from benchmarks.gpu.job import FAMILIES, Job
from benchmarks.gpu.rows import Notes, release_memory
from benchmarks.gpu.trainer import (
    Timing,
    Trainer,
    in_use,
    made_batch,
    make_engine,
    open_stream,
    repeated,
    settings,
)
from shards import Batch, Split
from shards.files import read_lines
from train.evaluation.measuring.heldout import to_audio
from train.parallel.engine import Engine
from train.parallel.strategy import adamw
from train.runs.run_folder import METRICS_FILE
from train.training.attempt import run_training, watch_for_stop

FAMILY = "vae"
LOOP_S = 6.0  # seconds of a loop
ROUNDS = 2
SMALL = 2  # chunks: the device is faster than the host then


def measure(job: Job, notes: Notes) -> None:
    """Adds the ratio, the host's time a step, and the waits of each family."""
    shards = music(job)
    split = Split.open(shards, "train")
    with notes.trying("loop against bare steps"):
        _compare(job, notes, shards, split)
    with notes.trying("host time"):
        _measure_host(job, notes, shards, split)
    for family in FAMILIES:
        with notes.trying(f"{family}: waits"):
            _count_waits(job, notes, family, shards, split)


def _compare(job: Job, notes: Notes, shards: Path, split: Split) -> None:
    """Bare steps and the loop in turns, in bf16."""
    bare, loop = [], []
    for turn in range(1 if job.quick else ROUNDS):
        engine = make_engine("bf16")
        config = settings(job, FAMILY, shards, job.folder / "none")
        trainer = Trainer(engine, config, FAMILY, split)
        repeat = repeated(made_batch(split, config.data.batch, engine.device))
        bare.append(Timing(bare_step(trainer), repeat, engine.device).run(job.time_each, job.warm).seconds)
        del trainer
        release_memory()
        every = 2 if job.quick else 20
        steps = 4 * every if job.quick else max(5, int(LOOP_S / bare[0] / every)) * every
        run = new_folder(job.folder / f"loop-{turn}")
        words = ["--optim.steps", str(steps), "--tracking.every", str(every), "--preflight", "false"]
        words += ["--tracking.evaluate_every", str(10 * steps), "--checkpoint.every", str(10 * steps)]
        words += ["--tracking.evaluate_chunks", "4"]
        rows = run_loop(settings(job, FAMILY, shards, run, *words), FAMILY, make_engine("bf16"))
        times = [(row["step"], row["time"]) for row in rows if "perf/chunks_per_second" in row][:-1]
        loop.append(median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(times)))
        release_memory()
    turns = ", ".join(f"{1e3 * ours:.2f} and {1e3 * theirs:.2f} ms" for ours, theirs in zip(loop, bare, strict=True))
    note = f"{FAMILY}, bf16; loop and bare: {turns}"
    ratio = median(ours / theirs for ours, theirs in zip(loop, bare, strict=True))
    if mfu := [row["perf/mfu"] for row in rows if "perf/mfu" in row]:
        notes.add("perf/mfu in the log of the loop", median(mfu), "of the published peak", note=f"{FAMILY}, bf16")
    notes.add("loop against bare steps", ratio, "of its time", at_most=1.02, note=note)


def bare_step(trainer: Trainer) -> Callable[[Batch], None]:
    """What a script without this project would do for a step: copy, forward, backward, clip, update, average."""
    model, config, device = trainer.model, trainer.config, trainer.engine.device
    optimizer = adamw(model, config.optim)
    parameters = [*model.parameters()]
    averages = [parameter.detach().clone() for parameter in parameters]
    weights = trainer.objective.weights_at(1)

    def step(batch: Batch) -> None:
        rows = batch.rows.to(device, non_blocking=True)
        audio = to_audio(batch.on(device), device, batch.channels)
        target = model.represent(audio)
        output = trainer.learner.strategy.wrapped(target, Noise(0, 1, rows, len(rows)))
        terms = model.distances(output.recon, target) | output.losses
        trainer.objective(terms, weights).mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.optim.clip)
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(averages, [parameter.detach() for parameter in parameters], 0.001)

    return step


def run_loop(config, family: str, engine: Engine, expected: tuple[int, ...] = (0,)) -> list[dict]:
    """Runs one attempt of a training in this process; returns the points of its log.

    Raises:
        RuntimeError: when it ends with another exit code than expected.
    """
    code = run_training(config, family, engine, watch_for_stop(config, True))
    if code not in expected:
        raise RuntimeError(f"the training ended with exit code {code}")
    return read_lines(config.run_dir / METRICS_FILE)


def new_folder(path: Path) -> Path:
    """A path under which nothing is: what an earlier call left there is moved away."""
    shutil.rmtree(path, ignore_errors=True)
    return path


def _measure_host(job: Job, notes: Notes, shards: Path, split: Split) -> None:
    """The host's time a step shows at a tiny batch, which the device computes faster than the host asks for it."""
    engine = make_engine("bf16")
    config = settings(job, FAMILY, shards, job.folder / "none")
    trainer = Trainer(engine, config, FAMILY, split)
    full = repeated(made_batch(split, config.data.batch, engine.device))
    whole = Timing(trainer.step, full, engine.device).run(job.time_each / 2, job.warm).seconds
    trainer.with_batch(SMALL)
    small = repeated(made_batch(split, SMALL, engine.device))
    host = Timing(trainer.step, small, engine.device).run(job.time_each / 2, job.warm).seconds
    notes.add("host time a step", 1e3 * host, "ms", note=f"{FAMILY}, time of a step of {SMALL} chunks")
    notes.add("host time of a step's time", host / whole, "", at_most=0.5, note=f"a step takes {1e3 * whole:.2f} ms")


@contextmanager
def waits_noted(found: list[str]) -> Iterator[None]:
    """Wraps work of the host; appends the place of each wait for the device to `found`. Nothing on a CPU."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        if "called a synchronizing" in str(warning.message):
            found.append(f"{Path(warning.filename).name}:{warning.lineno}")


def _count_waits(job: Job, notes: Notes, family: str, shards: Path, split: Split) -> None:
    """Counts waits for the device in one step with all that the loop does between points of the log."""
    config = settings(job, family, shards, job.folder / "none", *in_use(family))
    trainer = Trainer(make_engine("bf16"), config, family, split)
    with open_stream(trainer, split) as stream:
        for _ in range(job.warm):
            trainer.step(next(stream))
        batch, found = next(stream), []
        with waits_noted(found):
            norm = trainer.step(batch)
            trainer.meter.add({"optim/gradient_norm": norm, "optim/skipped": norm.isfinite().float()}, 1.0)
    on_gpu = trainer.engine.device.type == "cuda"
    note = ", ".join(sorted({*found})) if on_gpu else "a GPU is needed to count them"
    notes.add(f"{family}: waits for the device in a step", len(found) if on_gpu else None, "", at_most=0, note=note)
