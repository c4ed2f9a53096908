"""A source of records in memory, with faults on demand, and a program that copies from it in a process of its own."""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import shards.reading.sources.local_cache as module
from shards.chunk import ChunkFormat
from shards.errors import DataError
from shards.reading.sources import block_file
from shards.reading.sources.local_cache import CachedRecords

SHAPE = ChunkFormat(22050, 500)
COUNT, BLOCK = 203, 8
BLOCKS = -(-COUNT // BLOCK)


def make_records() -> np.ndarray:
    """The records of the split, uint8 [COUNT, stride], the same in every process."""
    audio = np.random.default_rng(5).integers(-9999, 9999, (COUNT, SHAPE.samples)).astype(np.int16)
    return SHAPE.records(audio, np.zeros(COUNT, int), np.arange(COUNT))


class MemoryRecords:
    """Records in memory. ``before(call number)`` runs before a read and may wait or raise."""

    def __init__(self, records: np.ndarray, before: Callable[[int], None] = lambda number: None):
        self.records, self.before = records, before
        self.calls: list[tuple[int, int]] = []
        self.closed = False
        self.lock = threading.Lock()

    def read(self, first: int, out: np.ndarray) -> None:
        with self.lock:
            number = len(self.calls)
            self.calls.append((first, len(out)))
        self.before(number)
        out[:] = self.records[first : first + len(out)]

    def close(self) -> None:
        self.closed = True


def fail(_: int) -> None:
    """A source that is not there."""
    raise DataError("the source is gone")


def until(condition: Callable[[], bool], limit_s: float = 20) -> None:
    """Wait for something that another thread or process does."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def main(folder: str, order: str) -> None:
    """What a process of the tests does.

    "hang": copy some blocks, then wait for ever in the source. "read": read at random, and check.
    """
    records = make_records()
    block_file.SPARE = 0  # the disk of the tests may be nearly full
    module.COPY_BYTES = 2 * BLOCK * SHAPE.stride
    what, number = json.loads(order)

    def hang(call: int) -> None:
        if call >= number:
            print("waiting", flush=True)
            time.sleep(60)

    source = MemoryRecords(records, hang if what == "hang" else lambda call: None)
    if what == "read":
        print("ready", flush=True)
        sys.stdin.readline()
    with CachedRecords(source, Path(folder), "set", COUNT, SHAPE, block=BLOCK, copiers=1) as scratch:
        if what == "hang":
            time.sleep(60)
        rng = np.random.default_rng(number)
        for _ in range(200):
            first = int(rng.integers(COUNT))
            out = np.zeros((int(rng.integers(1, COUNT - first + 1)), SHAPE.stride), np.uint8)
            scratch.read(first, out)
            assert np.array_equal(out, records[first : first + len(out)]), (first, len(out))
        until(lambda: scratch.present == BLOCKS)
        print(json.dumps({"present": scratch.present, "healed": scratch.healed}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
