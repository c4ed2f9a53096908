"""One contender at work in a process of its own, so that its memory and threads disturb no other."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.support import quiet

TIMEOUT_S = 600

# Readers: a folder, the batch size and options -> endless batches [n, samples]. Modules are imported when used.
READERS = {
    "ours": "benchmarks.speed.readers.ours",
    "gather": "benchmarks.speed.readers.ours",
    "direct_blocks": "benchmarks.speed.readers.ours",
    "webdataset_standard": "benchmarks.speed.readers.readers_webdataset",
    "webdataset_tuned": "benchmarks.speed.readers.readers_webdataset",
    "litdata": "benchmarks.speed.readers.readers_litdata",
    "mosaicml": "benchmarks.speed.readers.readers_mosaicml",
}


class Unavailable(Exception):  # noqa: N818 - it is no error
    """Why a contender cannot take part."""


@dataclass(frozen=True)
class Trial:
    """How to run a contender: ``warm`` chunks that do not count, then for some seconds or chunks."""

    reader: str
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    batch: int = 256
    warm: int = 0
    seconds: float = 3.0
    chunks: int = 2**62

    def run(self) -> float:
        """Chunks a second, measured in a new process.

        Raises Unavailable when the contender's library is not installed, RuntimeError when it fails.
        """
        return in_new_process(_measure, self)

    @contextmanager
    def batches(self) -> Iterator[Iterator]:
        """The contender's batches behind those that only warm it up."""
        try:
            reader = getattr(import_module(READERS[self.reader]), self.reader)
        except ModuleNotFoundError as error:
            raise Unavailable(f"{error.name} is not installed") from None
        with closing(reader(self.folder, self.batch, **self.options)) as batches:
            taken = 0
            while taken < self.warm:
                taken += use(next(batches))
            yield batches


def in_new_process(function, *arguments):
    """What a function returns when it runs in a clean process that has imported torch and nothing else."""
    quiet.wait()
    # Libraries leave shared memory behind; it is cleared away all the same.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "numpy"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        if not ours.poll(TIMEOUT_S):
            raise RuntimeError(f"{function.__name__}{arguments} did not end in {TIMEOUT_S} s")
        kind, content = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{function.__name__}{arguments} ended with code {process.exitcode}") from None
    finally:
        process.join(10)
        if process.is_alive():
            process.kill()
    if kind == "unavailable":
        raise Unavailable(content)
    if kind == "error":
        raise RuntimeError(content)
    return content


def rounds(trials: dict[str, Trial], count: int, before=lambda trial: None) -> dict[str, list[float]]:
    """Rates of all trials, taking turns, so that what else the machine does meets all alike."""
    rates: dict[str, list[float]] = {name: [] for name in trials}
    for _ in range(count):
        for name, trial in trials.items():
            before(trial)
            rates[name].append(trial.run())
    return rates


def _answer(pipe, function, arguments) -> None:
    try:
        pipe.send(("result", function(*arguments)))
    except Unavailable as why:
        pipe.send(("unavailable", str(why)))
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))


def _measure(trial: Trial) -> float:
    with trial.batches() as batches:
        counted, begin = 0, time.perf_counter()
        while (passed := time.perf_counter() - begin) < trial.seconds and counted < trial.chunks:
            counted += use(next(batches))
        passed = time.perf_counter() - begin
    return counted / passed


def use(batch) -> int:
    """Touch a batch, the same way for everybody; returns its size."""
    array = np.asarray(batch)
    array[:, ::1024].sum()
    return len(array)
