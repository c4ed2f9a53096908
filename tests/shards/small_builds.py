"""Builds of a few seconds of audio, in this process or in one that is killed on the way."""

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from shards.building import build as build_module
from shards.building import workers

SMALL = {"samples": 2205, "hop": 1000, "valid": 0.2, "chunks_per_shard": 100, "workers": 1}
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def add_recordings(folder: Path, seeds: range, seconds: float = 0.5) -> None:
    """Noise at the rate of the chunks, another for each seed."""
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        noise = np.random.default_rng(seed).standard_normal(int(22050 * (seconds + 0.01 * seed)))
        soundfile.write(folder / f"{seed:02d}.wav", 0.1 * noise, 22050)
        os.utime(folder / f"{seed:02d}.wav", (seed, seed))  # the manifest names it


@contextmanager
def _inline(count: int):
    """Stands for ``open_workers``: runs the jobs here, one after the other."""
    workers._done, workers._place = [0.0], 0

    class Inline:
        def run(self, function, jobs, progress, finish=lambda number, result: None):
            results = []
            for number, job in enumerate(jobs):
                results.append(function(*job))
                finish(number, results[-1])
                progress(workers._done[0])
            return results

    yield Inline()


def build_here(monkeypatch) -> None:
    """From now on builds start no processes."""
    monkeypatch.setattr(build_module, "open_workers", _inline)


def in_child(function, kill_at: int | None = None) -> int:
    """Run a function in a forked process and return its exit code.

    With ``kill_at`` the process ends by SIGKILL at its change of that number to the file system, and the code
    is -9; a function that makes fewer changes ends with 0.
    """
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        if kill_at is not None:
            _kill_self_at(kill_at)
        try:
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _kill_self_at(number: int) -> None:
    seen = 0

    def hook(event, arguments):
        nonlocal seen
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or writes:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
