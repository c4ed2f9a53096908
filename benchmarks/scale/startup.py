"""Which process of a run opens which file how often at its start: heard in real runs of 1, 2 and 4 processes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.speed.support.data import make_shards
from shards.manifest import Manifest
from shards.manifest.ends import hash_of, read_ends
from train.process.stop_requests import FINISHED, STOPPED

ROOT = Path(__file__).parents[2]
WORLDS = (1, 2, 4)
CHUNKS = 64
STEPS = 2
LIMIT_S = 900
SMALL = {
    "data.batch": 8,
    "model.trunk": {"strides": [98, 5], "channels": [8, 8], "blocks": 1, "kernel": 3},
    "checkpoint.every": 1,
    "tracking.wandb": "disabled",
    "tracking.evaluate_every": 1000,
}
KINDS = ("manifest", "shards", "checkpoint", "run folder", "presets", "Python", "other")


@dataclass(frozen=True)
class Start:
    """What one process opened in one attempt.

    Attributes:
        world: Processes of the run.
        resumed: Whether the attempt resumed from a checkpoint.
        rank: Which process.
        opens: Files opened, by kind.
        sizes: Bytes of these files, by kind: what they take if they are read as a whole.
    """

    world: int
    resumed: bool
    rank: int
    opens: dict[str, int]
    sizes: dict[str, int]


def measure(folder: Path, worlds: Iterable[int] = WORLDS) -> Iterator[Start]:
    """Trains a tiny model from its start and from a checkpoint with each number of processes."""
    data = _with_ends(make_shards(folder / f"set-{CHUNKS}", CHUNKS))
    for world in worlds:
        run = folder / f"start-{world}"
        for attempt, steps in enumerate((STEPS, 2 * STEPS)):
            heard = [folder / f"heard-{world}-{attempt}-{rank}.json" for rank in range(world)]
            _train(data, run, steps, heard)
            for rank, file in enumerate(heard):
                yield Start(world, attempt > 0, rank, *_by_kind(json.loads(file.read_text()), data, run))


def _with_ends(data: Path) -> Path:
    """Adds to a manifest the hashes of the shards' ends, as builds write them: so that the shards are verified."""
    manifest = Manifest.load(data)
    shape = manifest.chunk_format
    rows = [
        replace(row, ends=hash_of(read_ends(data / row.file, row.chunks, shape))) for row in manifest.splits["train"]
    ]
    replace(manifest, splits={"train": rows}).save(data)
    return data


def _by_kind(opened: dict[str, list[int]], data: Path, run: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Opens, and bytes of the opened files, by kind."""
    opens, sizes = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    for name, (count, size) in opened.items():
        kind = kind_of(Path(name), data.resolve(), run.resolve())
        opens[kind] += count
        sizes[kind] += size
    return opens, sizes


def kind_of(path: Path, data: Path, run: Path) -> str:
    """Which of KINDS a file is."""
    if path.is_relative_to(data):
        return "manifest" if path.suffix == ".json" else "shards"
    if path.is_relative_to(run):
        return "checkpoint" if path.is_relative_to(run / "checkpoints") else "run folder"
    if path.suffix in (".yaml", ".yml"):
        return "presets"
    if path.suffix in (".py", ".pyc", ".so", ".pth", ".egg-link"):
        return "Python"
    return "other"


def _train(data: Path, run: Path, steps: int, heard: list[Path]) -> None:
    """One attempt with a process for each file of `heard`. Raises RuntimeError if one fails."""
    words = ["vae", "--data", str(data), "--run-dir", str(run), "--optim.steps", "100", "--stop_at", str(steps)]
    for key, value in SMALL.items():
        words += [f"--{key}", json.dumps(value) if isinstance(value, dict) else str(value)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "OMP_NUM_THREADS": "1"}
    count = len(heard)
    with ExitStack() as ended:
        started = []
        for rank, file in enumerate(heard):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            names = {key: str(value) for key, value in place.items()} if count > 1 else {}
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.scale.listening", str(file), *words],
                cwd=ROOT,
                env=os.environ | (shared | names if count > 1 else {}),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            ended.callback(process.kill)
            started.append(process)
        said = [process.communicate(timeout=LIMIT_S)[0] for process in started]
    if failed := [
        text for process, text in zip(started, said, strict=True) if process.returncode not in (FINISHED, STOPPED)
    ]:
        raise RuntimeError(f"{' '.join(words)} failed: {failed[0][-2000:]}")
