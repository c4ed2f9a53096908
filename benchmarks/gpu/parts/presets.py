"""The default preset of a family: size, memory, speed in each precision, waiting for data, and use of the device."""

import torch

from benchmarks.gpu.data import music
from benchmarks.gpu.job import Job
from benchmarks.gpu.rows import Notes, release_memory
from benchmarks.gpu.trainer import (
    MODES,
    Timing,
    Trainer,
    in_use,
    made_batch,
    make_engine,
    open_stream,
    repeated,
    settings,
)
from shards import Split
from train.training.attempt import build_model
from train.training.learner import make_objective
from train.training.performance.flops import flops_of_chunk

LARGEST = 1 << 16  # chunks
RESERVE_S = 12.0  # time left for the rows after the search for the largest batch


def measure(job: Job, notes: Notes) -> None:
    """Adds the rows of one family."""
    family, shards = job.argument, music(job)
    split = Split.open(shards, "train")
    config = settings(job, family, shards, job.folder / "none", *in_use(family))
    batch, seconds = config.data.batch, split.samples / split.rate
    flops, fp32 = 0.0, 0.0
    with notes.trying("FLOPs of a chunk"):
        model = build_model(config, family, split)
        flops = flops_of_chunk(model, make_objective(config, model))
        notes.add("parameters", sum(parameter.numel() for parameter in model.parameters()) / 1e6, "M")
        notes.add("FLOPs of a chunk, forward and backward", flops / 1e9, "GFLOP", note="convolutions and products")
    for mode in MODES:
        with notes.trying(mode):
            trainer = Trainer(make_engine(mode), config, family, split)
            with open_stream(trainer, split) as stream:
                timing = Timing(trainer.step, stream, trainer.engine.device).run(job.time_each, job.warm)
            fp32 = 1 / timing.seconds if mode == "fp32" else fp32
            _add_speed(notes, mode, timing, batch, seconds, fp32)
            _add_use(job, notes, mode, batch * flops / timing.seconds)
            del trainer
    with notes.trying("tiny preset"):
        tiny = settings(job, family, shards, job.folder / "none", *in_use(family), tiny_preset=True)
        trainer = Trainer(make_engine("bf16"), tiny, family, split)
        repeat = repeated(made_batch(split, tiny.data.batch, trainer.engine.device))
        timing = Timing(trainer.step, repeat, trainer.engine.device).run(job.time_each / 2, job.warm)
        notes.add("tiny preset, bf16", 1 / timing.seconds, "steps/s", note=f"batch of {tiny.data.batch}")
        del trainer
    with notes.trying("largest batch"):
        _find_largest(job, notes, config, split)


def _add_speed(notes: Notes, mode: str, timing: Timing, batch: int, seconds: float, fp32: float) -> None:
    """Adds the rows of one precision. `seconds` is the length of a chunk, `fp32` steps a second in fp32."""
    rate = 1 / timing.seconds
    ratio = f", {rate / fp32:.2f} times fp32" if fp32 else ""
    notes.add(f"{mode}", rate, "steps/s", note=f"batch of {batch}{ratio}")
    notes.add(f"{mode}: audio", rate * batch * seconds, "hours/hour")
    notes.add(f"{mode}: waiting for data", timing.waited, "of the time", at_most=0.05)
    if timing.memory_gb is not None:
        notes.add(f"{mode}: memory", timing.memory_gb, "GB", note=f"peak of allocated memory, batch of {batch}")


def _add_use(job: Job, notes: Notes, mode: str, rate: float) -> None:
    """Adds the model FLOPs utilisation: FLOPs a second over the measured peak of the same precision."""
    peak = job.value("peaks", f"matmul {mode}")
    if peak and rate:
        notes.add(f"{mode}: MFU", rate / 1e12 / peak, "of the peak", note=f"of {peak:.0f} TFLOP/s measured")


def _find_largest(job: Job, notes: Notes, config, split: Split) -> None:
    """Doubles the batch in bf16 until it does not fit, or until the time is up."""
    trainer = Trainer(make_engine("bf16"), config, job.argument, split)
    device, size, found, reason = trainer.engine.device, config.data.batch, None, "the search ended"
    limit = 2 * size if device.type == "cpu" else LARGEST
    while size <= limit:
        if found and notes.left() < RESERVE_S:
            reason = "no time was left for more"
            break
        try:
            trainer.with_batch(size)
            repeat = repeated(made_batch(split, size, device))
            timing = Timing(trainer.step, repeat, device).run(0.0, 1)
        except RuntimeError as error:  # out of memory, or an index that does not fit into 32 bits
            reason = f"{2 * found[0] if found else size} did not fit: {str(error).splitlines()[0]}"
            break
        found = (size, timing.seconds, timing.memory_gb)
        size *= 2
    del trainer
    release_memory()
    if not found:
        notes.add("largest batch", None, note=reason)
        return
    size, seconds, memory = found
    notes.add("largest batch, bf16", size, "chunks", note=f"of powers of two; {reason}")
    notes.add("largest batch: audio", size / seconds * split.samples / split.rate, "hours/hour")
    if memory is not None:
        total = torch.cuda.get_device_properties(device).total_memory / 1e9
        notes.add("largest batch: memory", memory, "GB", note=f"of {total:.0f} GB")
