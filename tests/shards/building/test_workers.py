"""The pool of worker processes of a build: when it ends, none of its processes and threads is left."""

import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path

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
    assert set(threading.enumerate()) <= threads
    assert set(multiprocessing.active_children()) <= processes


ROOT = Path(__file__).parents[3]
HALF_A_RESULT = """
from shards.building.workers import open_workers
from tests.shards.building.test_workers import large

def stop(number, result):
    raise KeyboardInterrupt

if __name__ == "__main__":
    try:
        with open_workers(2) as pool:
            pool.run(large, [()] * 1000, lambda amount: None, stop)
    except KeyboardInterrupt:
        print("stopped")
"""


def large():
    """A result that takes its worker several writes; the next one is on its way when the first is there."""
    return bytes(20_000_000)


def test_a_worker_killed_in_the_middle_of_a_result_holds_nothing_up():
    done = subprocess.run([sys.executable, "-c", HALF_A_RESULT], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("stopped\n", "")


def test_a_pool_in_its_order():
    threads = set(threading.enumerate())
    with open_workers(2) as pool:
        assert pool.run(pow, [(2, 3), (3, 2), (2, 5)], lambda amount: None) == [8, 9, 32]
    assert set(threading.enumerate()) <= threads
