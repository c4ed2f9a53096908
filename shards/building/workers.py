"""A pool of worker processes that report progress and never outlive the command."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from shards.errors import DataError

POLL_S = 0.2
_done: Any = None  # in a worker: what each has done, shared; every worker writes to its own place only
_place = 0


def _start_worker(done: Any, started: Any) -> None:
    global _done, _place
    with started.get_lock():
        _done, _place = done, started.value
        started.value += 1
    for number in (signal.SIGINT, signal.SIGTERM):  # terminals and Slurm signal all; the command ends the workers
        signal.signal(number, signal.SIG_IGN)
    # The MP3 decoder writes its complaints to stderr; what matters comes back as an exception.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed command cannot end its workers, and they would wait for it for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


def count_done(amount: float) -> None:
    """Called in a worker: that much more is done."""
    _done[_place] += amount


class Workers:
    """Runs functions in processes; see ``open_workers``."""

    def __init__(self, executor: ProcessPoolExecutor, done: Any):
        self._executor, self._done = executor, done

    def run(
        self,
        function: Callable,
        jobs: list[tuple],
        progress: Callable[[float], None],
        finish: Callable[[int, Any], None] = lambda number, result: None,
    ) -> list[Any]:
        """Results of ``function(*job)`` in the order of the jobs.

        ``progress`` hears the sum of reports; ``finish`` gets the number of each job and its result as soon as
        it is there, in this process.
        """
        before = sum(self._done)
        try:
            numbers = {self._executor.submit(function, *job): number for number, job in enumerate(jobs)}
            pending = set(numbers)
            while pending:
                finished, pending = wait(pending, POLL_S, FIRST_COMPLETED)
                for future in finished:
                    finish(numbers[future], future.result())
                progress(sum(self._done) - before)
            return [future.result() for future in numbers]
        except BrokenProcessPool:
            raise DataError(
                "a worker process died, perhaps for lack of memory: run the same command again to continue, "
                "with fewer --workers"
            ) from None


@contextmanager
def open_workers(count: int) -> Iterator[Workers]:
    """A pool of ``count`` processes; an error or Ctrl-C ends them at once."""
    before = set(multiprocessing.active_children())
    # On large nodes a thread a core in each of as many workers would exceed what a user may start.
    threads = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    done = context.RawArray("d", count)
    executor = ProcessPoolExecutor(count, context, _start_worker, (done, context.Value("i", 0)))
    try:
        yield Workers(executor, done)
        executor.shutdown()
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()
        # A worker may have been killed in the middle of a result. The pool's thread waits for the rest of it until all
        # ends for writing are closed, and this process has one.
        if queue := getattr(executor, "_result_queue", None):
            queue._writer.close()
        # Wait for that thread: Python prints a traceback if it ends while Python exits.
        executor.shutdown(cancel_futures=True)
        raise
    finally:
        if threads is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = threads
