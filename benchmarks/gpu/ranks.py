"""One process of several in a short training: python -m benchmarks.gpu.ranks TASK BACKEND; rank 0 writes the losses."""

import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.state import PartialState

from benchmarks.gpu.job import Job
from benchmarks.gpu.trainer import Trainer, open_stream, settings, wait
from shards import Split
from train.parallel.engine import Engine

FAMILY = "vae"
STEPS, QUICK_STEPS = 12, 3
WARM = 3


def main(task: Path, backend: str) -> None:
    """Trains some steps, and writes losses, seconds a step and what ran to the file of the task."""
    content = json.loads(task.read_text())
    job = Job.load(Path(content["job"]))
    if backend:  # several processes on one card: NCCL refuses them, so the processes meet before the engine asks
        PartialState(cpu=not torch.cuda.is_available(), backend=backend)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # losses are compared
    engine = Engine()
    if engine.device.type == "cpu":
        torch.set_num_threads(1)
    split = Split.open(content["shards"], "train")
    config = settings(job, FAMILY, content["shards"], job.folder / "none")
    trainer = Trainer(engine, config, FAMILY, split)
    losses, times = [], []
    with open_stream(trainer, split) as stream:
        for _ in range(QUICK_STEPS if job.quick else STEPS):
            began = time.perf_counter()
            trainer.step(next(stream))
            wait(engine.device)
            times.append(time.perf_counter() - began)
            losses.append(trainer.loss())
    found = {
        "losses": losses,
        "seconds": min(times[min(WARM, len(times) - 1) :]),
        "world": engine.world,
        "backend": dist.get_backend() if dist.is_initialized() else "none",
        "wrapped": type(trainer.learner.strategy.wrapped).__name__,
        "sum": _sum(engine),
    }
    if engine.is_main:
        Path(content["out"]).write_text(json.dumps(found))
    engine.wait_for_all()
    trainer.learner.strategy.close()
    engine.close()


def _sum(engine: Engine) -> float:
    """The sum of all ranks' numbers plus one by an all-reduce; without a process group the same without it."""
    value = torch.full((), engine.rank + 1.0, device=engine.device)
    if dist.is_initialized():
        dist.all_reduce(value)
    return value.item()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
