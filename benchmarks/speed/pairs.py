"""Two processes that train one model against two that train one each, on half of the batch."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.speed.support.data import make_shards
from benchmarks.speed.support.rows import Row
from benchmarks.speed.support.training import LIMIT_S, ROOT

EVERY = 5  # steps between points of the log
BATCH = 16


def measure(folder: Path, quick: bool) -> list[Row]:
    """Both ways in turns, with one thread for each process."""
    chunks, steps, rounds = (64, 2 * EVERY, 1) if quick else (1024, 4 * EVERY, 3)
    shards = make_shards(folder / f"set-{chunks}", chunks)
    together, apart = [], []
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        for turn in range(rounds):
            runs_here = [Path(runs, f"pair-{turn}")] * 2
            together.append(_rate(shards, runs_here, steps, BATCH))
            apart.append(_rate(shards, [Path(runs, f"half-{turn}-{k}") for k in range(2)], steps, BATCH // 2))
    ratios = [a / b for a, b in zip(together, apart, strict=True)]
    return [
        Row(
            "two processes on one model against two models on half of the batch, tiny VAE, CPU",
            median(together),
            median(apart),
            median(ratios),
            "steps/s",
            0.9,
            note=", ".join(f"{ratio:.3f}" for ratio in ratios),
        )
    ]


def _rate(shards: Path, runs: list[Path], steps: int, batch: int) -> float:
    """Steps a second of two processes at a time, the slower of the two; equal folders are one run."""
    words = ["vae", "--config", "train/configs/vae_tiny.yaml", "--data", str(shards), "--optim.steps", str(steps)]
    words += ["--data.batch", str(batch), "--tracking.every", str(EVERY), "--tracking.evaluate_every", "100000"]
    words += ["--tracking.wandb", "disabled", "--checkpoint.every", "100000", "--preflight", "false"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one_run = runs[0] == runs[1]
    started = []
    for rank, run in enumerate(runs):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
        names = {key: str(value) for key, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"} if one_run else {}
        # A process alone takes as many threads as it may use cores, so each of the two gets one.
        core = sorted(os.sched_getaffinity(0))[rank % len(os.sched_getaffinity(0))]
        started.append(
            subprocess.Popen(
                ["taskset", "-c", str(core), sys.executable, "-m", "train", *words, "--run-dir", str(run)],
                cwd=ROOT,
                env=os.environ | names,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        said = [process.communicate(timeout=LIMIT_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    if any(process.returncode for process in started):
        raise RuntimeError("\n".join(said)[-2000:])
    return min(_pace(run) for run in runs)


def _pace(run: Path) -> float:
    """Steps a second between the first point of the log and the last one before the end."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first, *_, last = [row for row in rows if row["step"] and row["step"] % EVERY == 0][:-1] or rows
    return (last["step"] - first["step"]) / (last["time"] - first["time"])
