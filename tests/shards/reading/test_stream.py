import os
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import psutil
import pytest
import torch

from shards import BatchStream, Cursor, DataError, Split
from shards.reading import stream as stream_module
from shards.reading.arena import ALONE, Arena, RowReader
from shards.reading.order import EpochOrder

# Orders that make a small set behave as a large one.
SMALL = partial(EpochOrder, block=4, lanes=4, window=2)
RECORD = 8192  # bytes of the records of 2,205 samples
READERS = {"map": None, "arena": 100 * 4 * RECORD, "rows": 0}


@pytest.fixture(scope="module")
def split(data_dir):
    return Split.open(data_dir, "train")


def kept(batch):
    """A batch that stays when the next one comes."""
    return replace(batch, records=batch.records.clone())


def take(stream, steps):
    with stream:
        return [kept(next(stream)) for _ in range(steps)]


def open_stream(split, kind, *args, **settings):
    stream = BatchStream(split, *args, memory=READERS[kind], order=SMALL, **settings)
    assert type(stream.reader) is {"map": type(None), "arena": Arena, "rows": RowReader}[kind]
    return stream


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_together_see_the_sequence_of_one(split, world, kind):
    batch, steps = 10, 2 * len(split) // 10 + 3  # into the third epoch
    alone = take(open_stream(split, "map", batch, 5), steps)
    ranks = [take(open_stream(split, kind, batch, 5, rank, world), steps) for rank in range(world)]
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


@pytest.mark.parametrize("kind", READERS)
def test_resuming_at_any_step_gives_the_same_continuation(split, kind):
    batch = len(split) // 4
    whole = take(open_stream(split, "map", batch, 1), 9)
    for step in range(8):
        rest = take(open_stream(split, kind, batch, 1, cursor=whole[step].next_cursor), 8 - step)
        for one, other in zip(rest, whole[step + 1 :], strict=True):
            assert one.chunks.tolist() == other.chunks.tolist()
            assert torch.equal(one.audio, other.audio)


@pytest.mark.parametrize("kind", READERS)
def test_close_leaves_no_thread_and_no_file(data_dir, kind):
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    split = Split.open(data_dir, "train")
    streams = [open_stream(split, kind, 8, seed) for seed in range(5)]
    for stream in streams[:3]:
        next(stream)
    for stream in streams:
        stream.close()
        with pytest.raises(StopIteration):
            next(stream)
    split.close()
    wait_for(lambda: threading.active_count() <= before[0])
    assert len(os.listdir("/proc/self/fd")) <= before[1]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def exhaust(stream):
    for _ in range(1000):
        next(stream)


class Faulty:
    """Records of which one read goes wrong."""

    def __init__(self, records, failure, after):
        self.records, self.failure, self.left = records, failure, after

    def read(self, first, out):
        self.left -= 1
        if self.left == 0:
            self.failure()
        self.records.read(first, out)

    def close(self):
        self.records.close()


@pytest.mark.parametrize("kind", ["arena", "rows"])
def test_errors_reach_the_consumer(split, kind):
    def fail():
        raise DataError("the disk is gone")

    before = threading.active_count()
    faulty = Split(split.manifest, "train", Faulty(split.records, fail, 40), None, split.where)
    with open_stream(faulty, kind, 4, 0) as stream:
        with pytest.raises(DataError, match="the disk is gone"):
            exhaust(stream)
        with pytest.raises(StopIteration):
            next(stream)
    wait_for(lambda: threading.active_count() <= before)


class Late:
    """Records of which whole blocks come only when they are let through."""

    def __init__(self, records):
        self.records, self.come = records, threading.Event()

    def read(self, first, out):
        if len(out) > 1:
            assert self.come.wait(120)
        self.records.read(first, out)

    def close(self):
        self.records.close()


@pytest.mark.parametrize("step", [0, 1, 3])
def test_blocks_that_come_later_than_the_first_steps_hold_up_nothing(split, step):
    # The first steps read their records alone and pass by whole windows. When those arrive, they must make room.
    batch = len(split) // 4
    want = take(open_stream(split, "map", batch, 1), step + 14)[step:]
    late = Late(split.records)
    slow = Split(split.manifest, "train", late, None, split.where)
    with open_stream(slow, "arena", batch, 1, cursor=want[0].cursor, timeout_s=20) as stream:
        got = [kept(next(stream)) for _ in range(ALONE - 1)]
        wait_for(lambda: stream.reader._alone < 0)  # a step waits for its blocks
        late.come.set()
        got += [kept(next(stream)) for _ in range(14 - len(got))]
    for one, other in zip(got, want, strict=True):
        assert one.chunks.tolist() == other.chunks.tolist()
        assert torch.equal(one.audio, other.audio)


@pytest.mark.parametrize(("kind", "threads"), [("arena", 8), ("rows", 16)])
def test_closing_while_records_are_read_finds_no_damage(split, kind, threads):
    reading, go_on = [], threading.Event()

    class Waiting(Late):
        def read(self, first, out):
            reading.append(first)
            assert go_on.wait(120)
            self.records.read(first, out)

    stream = open_stream(Split(split.manifest, "train", Waiting(split.records), None, split.where), kind, 64, 0)
    wait_for(lambda: len(reading) == threads)
    threading.Timer(0.3, go_on.set).start()
    stream.close()  # most records of the batch are still to be read
    assert not stream.damage()


@pytest.mark.parametrize("kind", ["arena", "rows"])
def test_a_stalled_disk_is_an_error_not_a_hang(split, kind):
    answered = threading.Event()
    faulty = Split(split.manifest, "train", Faulty(split.records, answered.wait, 40), None, split.where)
    with open_stream(faulty, kind, 4, 0, prefetch=1, timeout_s=0.5) as stream:
        threading.Timer(3, answered.set).start()
        with pytest.raises(DataError, match=r"no batch of split 'train' came in 0.5 s, reading .*train-00000-00"):
            exhaust(stream)


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


@pytest.mark.parametrize("kind", READERS)
def test_many_short_lives(split, kind):
    # Threads that lose a wake-up would hang here now and then.
    for seed in range(100):
        with open_stream(split, kind, 16, seed, prefetch=1 + seed % 3, timeout_s=20) as stream:
            for _ in range(seed % 4):
                assert len(next(stream).chunks) == 16


def test_memory_stays_within_its_bound(data_dir):
    # The blocks of an arena are its own memory; the rest of the data must not come on top.
    split = Split.open(data_dir, "train")
    process = psutil.Process()
    with open_stream(split, "arena", 16, 0) as stream:
        for _ in range(5):
            next(stream)
        before = process.memory_info().rss
        for _ in range(5 * len(split) // 16):
            next(stream)
        assert process.memory_info().rss - before < READERS["arena"] + 30e6


class Event:
    """Takes the place of a CUDA event: the device gets there when the test says so, or when somebody has waited."""

    made: list["Event"]

    def __init__(self):
        self.waited = []
        self.reached = threading.Event()
        self.made.append(self)

    def record(self):
        pass

    def synchronize(self):
        self.waited.append(threading.current_thread())
        assert self.reached.wait(120)


@pytest.fixture
def on_a_gpu(split, monkeypatch):
    """A stream with four buffers whose copies go to a device that is as slow as the test."""
    monkeypatch.setattr(Event, "made", [], raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(stream_module, "allocate", lambda size, pinned: np.zeros(size, np.uint8))
    with BatchStream(split, 6, 0, prefetch=3, pin_memory=True, memory=READERS["map"], order=SMALL) as stream:
        yield stream
        for event in Event.made:
            event.reached.set()


def test_no_buffer_is_filled_before_the_device_has_copied_it(on_a_gpu):
    batches = [next(on_a_gpu) for _ in range(4)]
    contents = [batch.records.clone() for batch in batches]
    time.sleep(0.2)  # the reader could fill the buffers of the first three
    assert all(map(torch.equal, contents, [batch.records for batch in batches]))
    Event.made[0].reached.set()
    fifth = next(on_a_gpu)
    assert fifth.records.data_ptr() == batches[0].records.data_ptr()
    assert not torch.equal(batches[0].records, contents[0])
    assert all(map(torch.equal, contents[1:], [batch.records for batch in batches[1:]]))


def test_the_host_waits_for_the_device_apart_from_the_data(on_a_gpu):
    """With batch 5 in use, `keep_pace` waits until the device is done with batch 3: its buffer is that of batch 7."""
    for number in range(6):
        next(on_a_gpu)
        for event in Event.made[: max(0, number - 2)]:
            event.reached.set()
    assert not Event.made[3].reached.is_set()
    Event.made[3].reached.set()
    on_a_gpu.keep_pace()
    assert threading.current_thread() in Event.made[3].waited
    assert threading.current_thread() not in [thread for event in Event.made[4:] for thread in event.waited]
    for event in Event.made:
        event.reached.set()
    next(on_a_gpu)
    on_a_gpu.keep_pace()


def test_on_a_cpu_there_is_nothing_to_keep_pace_with(split):
    with open_stream(split, "map", 6, 0) as stream:
        stream.keep_pace()
        next(stream)
        stream.keep_pace()
