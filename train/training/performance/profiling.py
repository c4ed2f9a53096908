"""A profile of three steps in the run folder, by torch's own profiler."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from shards.files import make_folder, write_folder
from train.parallel.engine import Engine

FOLDER = "profile"
TRACE, MEMORY = "trace.json.gz", "memory.pickle"
STEPS = 3
MEMORY_EVENTS = 50_000  # allocations that the snapshot of a GPU's memory keeps, some kilobytes each


class StepProfile:
    """Profiles the steps `first` to `first` + 2 on rank 0. Use it as a context manager; inside, wrap each step.

    Observing changes no value of the run. An error of the profiler or a full disk is told, and training goes on.

    Args:
        run: The run folder.
        first: Number of the first step to profile, from 1; 0 for none.
        engine: The processes.
        tell: Prints a line.
        pause: A context for work that is not training: its time does not count in the rate.
    """

    def __init__(
        self,
        run: Path,
        first: int,
        engine: Engine,
        tell: Callable[[str], None],
        pause: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self._run, self._tell, self._pause = run, tell, pause
        self._first = first if engine.is_main else 0
        self._on_gpu = engine.device.type == "cuda"
        self._profiler: profile | None = None

    def __enter__(self) -> "StepProfile":
        return self

    def __exit__(self, *_: object) -> None:
        """Drops a profile whose steps have not all been made."""
        if self._profiler is not None:
            self._trying(self._end)

    @contextmanager
    def around(self, step: int) -> Iterator[None]:
        """Wraps the step that follows `step` finished ones."""
        number = step + 1
        if self._first and number == self._first:
            self._trying(self._begin)
        yield
        if self._profiler is not None and number == self._first + STEPS - 1:
            self._trying(self._write)

    def _trying(self, action: Callable[[], None]) -> None:
        try:
            with self._pause():
                action()
        except Exception as error:
            with suppress(Exception):
                self._end()
            why = (str(error) or type(error).__name__).splitlines()[0]
            self._tell(f"warning: no profile of steps from {self._first} on: {why}")

    def _begin(self) -> None:
        if not self._on_gpu:  # the profiler's library prints an error about a missing GPU
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        profiler = profile(
            activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * self._on_gpu],
            record_shapes=True,
            profile_memory=True,
            acc_events=True,  # without it, torch warns about cycles, which there are not
        )
        if self._on_gpu:
            torch.cuda.memory._record_memory_history(max_entries=MEMORY_EVENTS, stacks="python")
        profiler.start()
        self._profiler = profiler

    def _end(self) -> None:
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            if self._on_gpu:
                torch.cuda.synchronize()  # kernels that are still to run belong to these steps
            profiler.stop()
        if self._on_gpu:
            torch.cuda.memory._record_memory_history(enabled=None)

    def _write(self) -> None:
        profiler = self._profiler
        assert profiler is not None
        if self._on_gpu:
            torch.cuda.synchronize()
        folder = self._run / FOLDER / f"step-{self._first:08d}"
        make_folder(folder.parent, self._run)

        def fill(temporary: Path) -> None:
            if self._on_gpu:
                torch.cuda.memory._dump_snapshot(str(temporary / MEMORY))
            self._end()
            profiler.export_chrome_trace(str(temporary / TRACE))

        write_folder(folder, fill, inside=self._run)
        self._tell(f"steps {self._first} to {self._first + STEPS - 1}: profile in {folder}")
