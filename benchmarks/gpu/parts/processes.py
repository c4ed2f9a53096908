"""Several processes: DDP over NCCL with one, two on one card with gloo, DeepSpeed's stages; losses are compared."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.data import music
from benchmarks.gpu.job import Job
from benchmarks.gpu.ranks import FAMILY
from benchmarks.gpu.rows import Notes

LIMIT_S = 60.0
NEAR = 1e-4  # float32 sums in another order


def measure(job: Job, notes: Notes) -> None:
    """Adds losses beside those of a process alone, and the time of a step."""
    shards, alone = music(job), None
    on_gpu = torch.cuda.is_available()
    with notes.trying("a process alone"):
        alone = _run(job, notes, shards, "alone", 0)
        notes.add("a process alone", 1e3 * alone["seconds"], "ms a step", note=f"{FAMILY}, fp32")
    with notes.trying("DDP, one process"):
        _add(notes, f"DDP over {'NCCL' if on_gpu else 'gloo'}, one process", _run(job, notes, shards, "ddp", 1), alone)
    with notes.trying("two processes"):
        place = "one card" if on_gpu else "the CPU"
        _add(notes, f"two processes on {place}, gloo", _run(job, notes, shards, "gloo", 2, "gloo"), alone)
    if importlib.util.find_spec("deepspeed") is None:
        notes.add("DeepSpeed", None, note="not installed")
        return
    for stage in (3,) if job.quick else (1, 2, 3):
        with notes.trying(f"DeepSpeed, stage {stage}"):
            more = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage)}
            found = _run(job, notes, shards, f"stage-{stage}", 1, "", more)
            _add(notes, f"DeepSpeed, stage {stage}", found, alone)


def _add(notes: Notes, name: str, found: dict[str, Any], alone: dict[str, Any] | None) -> None:
    """Adds what one set-up found."""
    world = found["world"]
    note = f"{found['wrapped']}, backend {found['backend']}"
    if found["sum"] != world * (world + 1) / 2:
        raise RuntimeError(f"the all-reduce gave {found['sum']} on {world} processes")
    notes.add(name, 1e3 * found["seconds"], "ms a step", note=note)
    if alone:
        pairs = zip(found["losses"], alone["losses"], strict=True)
        largest = max(abs(ours - theirs) / abs(theirs) for ours, theirs in pairs)
        notes.add(f"{name}: losses, largest difference", largest, "of the loss", at_most=NEAR)


def _run(
    job: Job, notes: Notes, shards: Path, name: str, world: int, backend: str = "", more: dict[str, str] | None = None
) -> dict[str, Any]:
    """Starts the processes of one set-up and returns what rank 0 found; `world` 0 means no launcher at all.

    Raises:
        RuntimeError: when a process fails or takes too long.
    """
    task, out = job.folder / f"ranks-{name}.json", job.folder / f"ranks-{name}-found.json"
    out.unlink(missing_ok=True)
    here = job.folder / f"ranks-{name}-job.json"
    job.save(here)
    task.write_text(json.dumps({"job": str(here), "shards": str(shards), "out": str(out)}))
    words = [sys.executable, "-m", "benchmarks.gpu.ranks", str(task), backend]
    port, processes = free_port(), []
    for rank in range(max(1, world)):
        log = open(job.folder / f"ranks-{name}-{rank}.log", "w")  # noqa: SIM115 - the process writes to it
        environment = {**os.environ, "ACCELERATE_MIXED_PRECISION": "no", **(more or {})}
        if world:
            # Each process is a node of its own, so that two may share a card.
            environment |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        processes.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))
    try:
        limit = max(1.0, min(LIMIT_S, notes.left()))
        for process in processes:
            process.wait(limit)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no end after {limit:.0f} s; {_told(job, name)}") from None
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if not out.exists():
        raise RuntimeError(f"exit code {processes[0].returncode}; {_told(job, name)}")
    return json.loads(out.read_text())


def _told(job: Job, name: str) -> str:
    """The last line of rank 0."""
    lines = (job.folder / f"ranks-{name}-0.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
