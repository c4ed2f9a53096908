"""The pool of a build ends whole: no process and no thread of it outlives the command."""

import multiprocessing
import threading
import time

import pytest

from shards.building.workers import open_workers


def raising(error):
    def progress(amount):
        raise error

    return progress


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_of_a_stopped_pool_is_left(error):
    """Python prints a traceback if the pool's thread ends while Python exits."""
    threads, processes = set(threading.enumerate()), set(multiprocessing.active_children())
    begun = time.monotonic()
    with pytest.raises(error), open_workers(2) as pool:
        pool.run(time.sleep, [(600,)] * 3, raising(error))
    assert time.monotonic() - begun < 300  # the jobs were not waited for
    assert set(threading.enumerate()) == threads
    assert set(multiprocessing.active_children()) == processes


def test_a_pool_in_its_order():
    threads = set(threading.enumerate())
    with open_workers(2) as pool:
        assert pool.run(pow, [(2, 3), (3, 2), (2, 5)], lambda amount: None) == [8, 9, 32]
    assert set(threading.enumerate()) == threads
