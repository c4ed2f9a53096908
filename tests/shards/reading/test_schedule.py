from functools import partial
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import Cursor, steps_left
from shards.reading.order import EpochOrder
from shards.reading.schedule import Schedule

SMALL = partial(EpochOrder, block=3, lanes=4, window=2)


def take(schedule, cursor, steps):
    return list(islice(schedule.steps(cursor), steps))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.data())
def test_any_ranks_and_any_resume_consume_one_sequence(count, data):
    batch = data.draw(st.integers(1, count))
    world = data.draw(st.integers(1, min(batch, 5)))
    steps = data.draw(st.integers(1, 12))
    whole = take(Schedule(count, batch, 7, order=SMALL), Cursor(), steps)
    split = data.draw(st.integers(0, steps - 1))
    for rank in range(world):
        rest = take(Schedule(count, batch, 7, rank, world, SMALL), whole[split].cursor, steps - split)
        for one, mine in zip(whole[split:], rest, strict=True):
            assert mine.rows.tolist() == [row for row in range(batch) if (one.cursor.consumed + row) % world == rank]
            assert mine.chunks.tolist() == one.chunks[mine.rows].tolist()
            assert (mine.cursor, mine.next_cursor) == (one.cursor, one.next_cursor)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(0, 40), st.integers(0, 400), st.data())
def test_after_is_where_the_steps_lead(count, steps, consumed, data):
    schedule = Schedule(count, data.draw(st.integers(1, count)), 0)
    cursor = Cursor(2, min(consumed, count))
    assert schedule.after(cursor, steps) == next(islice(schedule.steps(cursor), steps, None)).cursor


def test_after_many_epochs_is_arithmetic():
    assert Schedule(10**9, 512, 0).after(Cursor(), 10**12) == Cursor(512000, 0)
    assert Schedule(100, 30, 0).after(Cursor(1, 30), 3_000_002) == Cursor(1_000_002, 0)


def test_what_an_epoch_drops_differs():
    schedule = Schedule(10, 4, 0)
    dropped = [set(range(10)) - set(np.concatenate([s.chunks for s in take(schedule, Cursor(e), 2)])) for e in range(9)]
    assert all(len(left) == 2 for left in dropped)
    assert len({tuple(sorted(left)) for left in dropped}) > 3


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(0, 200), st.data())
def test_windows_come_before_the_steps_that_need_them(count, consumed, data):
    batch = data.draw(st.integers(1, count))
    world = data.draw(st.integers(1, min(batch, 3)))
    schedule = Schedule(count, batch, 3, data.draw(st.integers(0, world - 1)), world, SMALL)
    cursor = Cursor(0, min(consumed, count))
    windows = list(islice(schedule.windows(cursor), 40))
    last_epoch = windows[-1][0]
    for step in take(schedule, cursor, 30):
        if step.cursor.epoch < last_epoch:
            end = step.next_cursor.consumed
            blocks = {b for e, w in windows if e == step.cursor.epoch and w.first < end for b in w.blocks.tolist()}
            assert set((step.chunks // 3).tolist()) <= blocks


def test_steps_left():
    assert steps_left(100, 30, Cursor()) == 3
    assert steps_left(100, 30, Cursor(5, 30)) == 2
    assert steps_left(100, 30, Cursor(5, 90)) == 0
    assert steps_left(100, 30, Cursor(5, 400)) == 0


@pytest.mark.parametrize("count", [5, 64, 1000])
def test_an_epoch_ends_with_its_last_whole_step(count):
    steps = take(Schedule(count, 5, 0), Cursor(), count // 5 + 1)
    assert [step.cursor.epoch for step in steps] == [0] * (count // 5) + [1]
