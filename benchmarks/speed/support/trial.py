"""Runs each contender in a separate process, so that its memory and threads do not affect the others."""

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
    "ours_mixed": "benchmarks.speed.readers.ours",
    "gather": "benchmarks.speed.readers.ours",
    "direct_blocks": "benchmarks.speed.readers.ours",
    "webdataset_standard": "benchmarks.speed.readers.webdataset",
    "webdataset_tuned": "benchmarks.speed.readers.webdataset",
    "litdata": "benchmarks.speed.readers.litdata",
    "mosaicml": "benchmarks.speed.readers.mosaicml",
}


class Unavailable(Exception):  # noqa: N818 - not an error
    """A contender cannot take part; the message is the reason."""


@dataclass(frozen=True)
class Trial:
    """How to run a contender: ``warm`` chunks of warm-up, then at most ``chunks`` chunks and ``seconds`` seconds."""

    reader: str
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    batch: int = 256
    warm: int = 0
    seconds: float = 3.0
    chunks: int = 2**62

    def run(self) -> float:
        """Chunks per second, measured in a new process.

        Raises Unavailable if the contender's library is not installed, RuntimeError if it fails.
        """
        return in_new_process(_measure, self)

    @contextmanager
    def batches(self) -> Iterator[Iterator]:
        """The batches of the contender after the warm-up."""
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
    """Calls a function in a new process that has imported only torch and numpy; returns its result."""
    quiet.wait()
    # Some libraries leave shared memory behind, which the resource tracker removes with a warning.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "numpy"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        if not ours.poll(TIMEOUT_S):
            raise RuntimeError(f"{function.__name__}{arguments} timed out after {TIMEOUT_S} s")
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
    """Rates of all trials, run in turns, so that other load on the machine affects all of them equally."""
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
    """Reads a few values of a batch, the same for all contenders; returns its size."""
    array = np.asarray(batch)
    array[:, ::1024].sum()
    return len(array)
