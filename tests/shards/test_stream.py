import threading
import time

import numpy as np
import pytest
import torch

from shards import BatchStream, Cursor, DataError, Split, steps_left


@pytest.fixture(scope="module")
def split(data_dir):
    return Split.open(data_dir, "train")


def take(stream, steps):
    with stream:
        return [next(stream) for _ in range(steps)]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_together_see_the_sequence_of_one(split, world):
    batch, steps = 10, 2 * len(split) // 10 + 3  # into the third epoch
    alone = take(BatchStream(split, batch, seed=5), steps)
    ranks = [take(BatchStream(split, batch, 5, rank, world), steps) for rank in range(world)]
    for step, one in enumerate(alone):
        chunks = np.full(batch, -1)
        for rank in ranks:
            assert rank[step].cursor == one.cursor
            assert torch.equal(rank[step].audio, split.read(rank[step].chunks))
            chunks[rank[step].rows.numpy()] = rank[step].chunks
        assert chunks.tolist() == one.chunks.tolist()


def test_an_epoch_holds_no_chunk_twice_and_epochs_differ(split):
    batch = 7
    steps = len(split) // batch
    batches = take(BatchStream(split, batch, seed=0), 2 * steps)
    first, second = (np.concatenate([b.chunks for b in half]) for half in (batches[:steps], batches[steps:]))
    assert len(np.unique(first)) == len(np.unique(second)) == steps * batch
    assert first.tolist() != second.tolist()
    assert batches[steps].cursor == Cursor(1, 0)


def test_resuming_at_any_step_gives_the_same_continuation(split):
    batch = len(split) // 4
    whole = take(BatchStream(split, batch, seed=1), 9)
    for step in range(8):
        rest = take(BatchStream(split, batch, 1, cursor=whole[step].next_cursor), 8 - step)
        for one, other in zip(rest, whole[step + 1 :], strict=True):
            assert one.chunks.tolist() == other.chunks.tolist()
            assert torch.equal(one.audio, other.audio)


def test_steps_left():
    assert steps_left(100, 30, Cursor()) == 3
    assert steps_left(100, 30, Cursor(5, 30)) == 2
    assert steps_left(100, 30, Cursor(5, 90)) == 0
    assert steps_left(100, 30, Cursor(5, 400)) == 0


def test_close_leaves_no_thread(split):
    before = threading.active_count()
    streams = [BatchStream(split, 8, seed) for seed in range(5)]
    for stream in streams[:3]:
        next(stream)
    for stream in streams:
        stream.close()
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(streams[0])


class Broken:
    """A split whose third read goes wrong."""

    def __init__(self, split, failure):
        self.split, self.failure, self.reads = split, failure, 0
        self.name, self.samples = split.name, split.samples

    def __len__(self):
        return len(self.split)

    def read(self, chunks, out):
        self.reads += 1
        if self.reads == 3:
            self.failure()
        return self.split.read(chunks, out)


def test_errors_reach_the_consumer(split):
    def fail():
        raise OSError("the disk is gone")

    with BatchStream(Broken(split, fail), 4, 0) as stream:
        next(stream), next(stream)
        with pytest.raises(OSError, match="the disk is gone"):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)


def test_a_stalled_disk_is_an_error_not_a_hang(split):
    with BatchStream(Broken(split, lambda: time.sleep(2)), 4, 0, prefetch=1, timeout_s=0.3) as stream:
        next(stream), next(stream)
        with pytest.raises(DataError, match="no batch"):
            next(stream)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 10**6}, "lower the batch size"),
        ({"batch": 2, "world": 3}, "raise"),
        ({"batch": 4, "rank": 2, "world": 2}, "rank 2"),
        ({"batch": 4, "cursor": Cursor(0, -1)}, "no place"),
    ],
)
def test_impossible_sizes(split, arguments, message):
    before = threading.active_count()
    with pytest.raises(DataError, match=message):
        BatchStream(split, seed=0, **arguments)
    assert threading.active_count() == before


def test_many_short_lives(split):
    # A ring that loses a wake-up would hang here now and then.
    for seed in range(150):
        with BatchStream(split, 16, seed, prefetch=1 + seed % 3, timeout_s=20) as stream:
            assert len(next(stream).chunks) == 16
