"""A pool of worker processes that report progress and never outlive the command."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from shards.errors import DataError

POLL_S = 0.2
_done: Any = None  # in a worker: seconds of audio done by all of them, shared


def _start_worker(done: Any) -> None:
    global _done
    _done = done
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command's own process ends the workers
    # The MP3 decoder writes its complaints to stderr; what matters comes back as an exception.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed command cannot end its workers, and they would wait for it for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def count_done(amount: float) -> None:
    """Called in a worker: that much more is done."""
    with _done.get_lock():
        _done.value += amount


class Workers:
    """Runs functions in processes; see ``open_workers``."""

    def __init__(self, executor: ProcessPoolExecutor, done: Any):
        self._executor, self._done = executor, done

    def run(self, function: Callable, jobs: list[tuple], progress: Callable[[float], None]) -> list[Any]:
        """Results of ``function(*job)`` in the order of the jobs; ``progress`` hears the sum of reports."""
        self._done.value = 0.0
        pending: set[Future] = set()
        try:
            futures = [self._executor.submit(function, *job) for job in jobs]
            pending = set(futures)
            while pending:
                finished, pending = wait(pending, POLL_S, FIRST_COMPLETED)
                for future in finished:
                    future.result()
                progress(self._done.value)
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise DataError(
                "a worker process died, perhaps for lack of memory: run the same command again to continue, "
                "with fewer --workers"
            ) from None


@contextmanager
def open_workers(count: int) -> Iterator[Workers]:
    """A pool of ``count`` processes; an error or Ctrl-C ends them at once."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    done = context.Value("d", 0.0)
    executor = ProcessPoolExecutor(count, context, _start_worker, (done,))
    try:
        yield Workers(executor, done)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    executor.shutdown()
