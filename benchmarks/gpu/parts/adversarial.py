"""A step of the adversarial phase against one before it: time, memory, and waits for the device."""

import math
from collections.abc import Sequence

from benchmarks.gpu.data import music
from benchmarks.gpu.job import Job
from benchmarks.gpu.parts.loop import waits_noted
from benchmarks.gpu.rows import Notes
from benchmarks.gpu.trainer import Timing, Trainer, made_batch, make_engine, repeated, settings
from shards import Split

FAMILY = "vae"
PERIODS = ["--adversarial.periods", "[2,3,5,7,11]"]
# Discriminators of 8 filters are those that the documents recommend for CPUs.
KINDS: dict[str, list[str]] = {
    "8 filters": ["--adversarial.filters", "8"],
    "32 filters": ["--adversarial.filters", "32"],
    "32 filters and periods": ["--adversarial.filters", "32", *PERIODS],
}
# They override the others: on a CPU, 32 filters take a hundred times a step of the tiny model.
QUICK = ["--adversarial.filters", "2", "--adversarial.windows", "[256,128]"]
PHASE = ["--adversarial.start", "1", "--adversarial.lead", "0", "--adversarial.ramp", "1"]
# The losses of the phase are in float32 under bf16, so both precisions are measured.
MODES = ("fp32", "bf16")


def measure(job: Job, notes: Notes) -> None:
    """Adds the rows of each precision and size of the discriminator."""
    shards = music(job)
    split = Split.open(shards, "train")

    def trainer_of(mode: str, words: Sequence[str], step: int) -> Trainer:
        config = settings(job, FAMILY, shards, job.folder / "none", *words, *(QUICK if job.quick and step else []))
        return Trainer(make_engine(mode), config, FAMILY, split, step=step)

    def timed(trainer: Trainer) -> Timing:
        batch = made_batch(split, trainer.config.data.batch, trainer.engine.device)
        return Timing(trainer.step, repeated(batch), trainer.engine.device).run(job.time_each / 2, job.warm)

    for mode in MODES[:1] if job.quick else MODES:  # the last measurement runs in bf16 in any case
        before = None
        with notes.trying(f"{mode}: before the phase"):
            timing = timed(trainer_of(mode, [], 0))
            before = timing.seconds
            notes.add(f"{mode}: a step before the phase", 1e3 * before, "ms", note=f"`{FAMILY}`")
        for kind, words in KINDS.items():
            with notes.trying(f"{mode}: {kind}"):
                trainer = trainer_of(mode, [*PHASE, *words], 1)
                timing = timed(trainer)
                loss = trainer.loss()
                if not math.isfinite(loss):
                    raise RuntimeError(f"the loss is {loss}")
                ratio = timing.seconds / before if before else None
                note = f"{1e3 * timing.seconds:.2f} ms; total loss {loss:.4g}"
                notes.add(f"{mode}: {kind}", ratio, "times a step before", note=note)
                if timing.memory_gb is not None:
                    notes.add(f"{mode}: {kind}: memory", timing.memory_gb, "GB", note="peak of allocated memory")
                del trainer
    with notes.trying("waits in the phase"):
        _count_waits(notes, trainer_of("bf16", [*PHASE, *KINDS["32 filters"]], 1), split, job.warm)


def _count_waits(notes: Notes, trainer: Trainer, split: Split, warm: int) -> None:
    """Counts waits for the device in one step of both players."""
    device = trainer.engine.device
    batch, found = made_batch(split, trainer.config.data.batch, device), list[str]()
    for _ in range(warm):
        trainer.step(batch)
    with waits_noted(found):
        trainer.step(batch)
    on_gpu = device.type == "cuda"
    note = ", ".join(sorted({*found})) if on_gpu else "a GPU is needed to count them"
    notes.add("waits for the device in a step of the phase", len(found) if on_gpu else None, "", at_most=0, note=note)
