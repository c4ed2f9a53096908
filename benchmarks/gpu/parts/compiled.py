"""The default preset of a family in bf16, compiled."""

import time

from benchmarks.gpu.data import music
from benchmarks.gpu.job import Job
from benchmarks.gpu.rows import Notes
from benchmarks.gpu.trainer import Timing, Trainer, in_use, make_engine, open_stream, settings, wait
from shards import Split


def measure(job: Job, notes: Notes) -> None:
    """Adds speed with torch.compile, and what compiling costs."""
    family, shards = job.argument, music(job)
    split = Split.open(shards, "train")
    config = settings(job, family, shards, job.folder / "none", *in_use(family))
    with notes.trying("bf16 + compile"):
        # Inductor takes a minute on a CPU; to see that everything runs, its front end is enough.
        backend = "eager" if job.quick else ""
        trainer = Trainer(make_engine("bf16"), config, family, split, True, backend)
        with open_stream(trainer, split) as stream:
            began = time.perf_counter()
            trainer.step(next(stream))
            wait(trainer.engine.device)
            notes.add("first step, with compiling", time.perf_counter() - began, "s")
            timing = Timing(trainer.step, stream, trainer.engine.device).run(job.time_each, job.warm)
        rate = 1 / timing.seconds
        note = f"batch of {config.data.batch}"
        for mode in ("fp32", "bf16"):
            if eager := job.value(f"preset-{family}", mode):
                note += f", {rate / eager:.2f} times {mode}"
        notes.add("bf16 + compile", rate, "steps/s", note=note)
        if timing.memory_gb is not None:
            notes.add("bf16 + compile: memory", timing.memory_gb, "GB")
