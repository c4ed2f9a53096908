import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shards.reading.order import EpochOrder
from shards.splitmix import keyed_order, mix, permute, splitmix64

GOLDEN = [41122, 62876, 54888, 70486, 91875, 45929, 2467, 36322]
GOLDEN_SMALL = [2, 3, 7, 4, 9, 6, 5, 1, 0, 8]


def test_splitmix64_is_the_published_one():
    # The first outputs of the reference generator from state 1234567: its state grows by the golden gamma.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + i * gamma) % 2**64 for i in range(3)], np.uint64)
    assert splitmix64(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection_of_any_size(size, key):
    assert sorted(permute(np.arange(size), size, key).tolist()) == list(range(size))


def test_permute_takes_a_size_and_a_key_for_each_number():
    sizes, keys = np.array([5, 1, 1024, 7]), np.array([3, 4, 5, 6], np.uint64)
    x = np.array([4, 0, 1000, 6])
    alone = [int(permute(x[i : i + 1], int(sizes[i]), int(keys[i]))[0]) for i in range(4)]
    assert permute(x, sizes, keys).tolist() == alone


def test_permute_makes_every_permutation_as_often():
    # Chi-square over the 24 orders of four things: 23 degrees of freedom, 99.9th percentile 49.7 for a perfect
    # draw. The arithmetic is a little less even than that, which no shuffle of audio would show.
    drawn = Counter(tuple(permute(np.arange(4), 4, mix(key)).tolist()) for key in range(4800))
    assert len(drawn) == 24
    assert sum((count - 200) ** 2 / 200 for count in drawn.values()) < 200


def test_permute_sends_each_place_everywhere():
    keys = np.array([mix(key) for key in range(4000)], np.uint64)
    for size in (64, 1000, 1024):
        for place in (0, 1, size // 2, size - 1):
            counts = np.bincount(permute(np.full(4000, place), size, keys) * 16 // size, minlength=16)
            assert ((counts - 250) ** 2 / 250).sum() < 60  # 15 degrees of freedom


LANES = st.builds(dict, block=st.integers(1, 5), lanes=st.integers(1, 6), window=st.integers(1, 4))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1), st.integers(0, 1000), LANES)
@example(1, 0, 0, {"block": 4, "lanes": 5, "window": 3})
def test_an_epoch_is_a_bijection(count, seed, epoch, shape):
    order = EpochOrder(count, seed, epoch, **shape)
    assert sorted(order.at(np.arange(count)).tolist()) == list(range(count))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 600), st.integers(0, 99), LANES, st.integers(1, 7), st.data())
def test_windows_cover_what_each_rank_reads(count, seed, shape, world, data):
    order = EpochOrder(count, seed, 0, **shape)
    rank = data.draw(st.integers(0, world - 1))
    begin = data.draw(st.integers(0, count - 1))
    windows = list(order.windows(begin, rank, world))
    assert [window.first for window in windows] == sorted(window.first for window in windows)
    assert all(window.last >= begin for window in windows)
    for position in range(begin + (rank - begin) % world, count, world):
        block = order.at(np.array([position]))[0] // order.block
        assert any(w.first <= position <= w.last and block in w.blocks for w in windows)
    batch = data.draw(st.integers(1, 50))
    changes = [(w.first, len(w.blocks)) for w in windows] + [(w.last + batch, -len(w.blocks)) for w in windows]
    resident = np.cumsum([change for _, change in sorted(changes)])
    assert resident.max(initial=0) <= order.resident_blocks(batch, world)


def test_each_block_is_read_once_by_ranks_that_divide_the_lanes():
    order = EpochOrder(300_000, 1, 1)
    for world in (1, 2, 4, 64):
        body = [w.blocks for rank in range(world) for w in order.windows(0, rank, world) if w.last < 299_999]
        blocks = np.concatenate(body)
        assert len(np.unique(blocks)) == len(blocks)


def test_a_billion_chunks_need_no_preparation():
    tracemalloc.start()
    order = EpochOrder(10**9, 0, 0)
    drawn = order.at(np.arange(900_000_000, 900_000_512))
    first = next(iter(order.windows(900_000_000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(drawn)) == 512
    assert first.first <= 900_000_000 <= first.last
    assert peak < 5e6


@pytest.mark.parametrize("count", [1, 2, 32767, 32768, 32769, 32831, 70001, 200_003])
def test_the_default_is_a_bijection_in_any_order_of_asking(count):
    order = EpochOrder(count, seed=3, epoch=1)
    whole = order.at(np.arange(count))
    assert (np.bincount(whole, minlength=count) == 1).all()
    some = np.random.default_rng(0).integers(0, count, 100)
    np.testing.assert_array_equal(EpochOrder(count, seed=3, epoch=1).at(some), whole[some])


def test_epochs_and_seeds_differ_and_keys_repeat():
    def first(seed, epoch, count=100_000):
        return EpochOrder(count, seed, epoch).at(np.arange(50)).tolist()

    assert first(0, 0) == first(0, 0)
    assert len({tuple(first(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert first(-1, 0) != first(1, 0)


def test_the_order_stays_what_it_was():
    # A run resumed under a later version must see the same data.
    assert EpochOrder(100_000, 7, 2).at(np.arange(0, 100_000, 12_500)).tolist() == GOLDEN
    assert EpochOrder(10, 7, 2).at(np.arange(10)).tolist() == GOLDEN_SMALL


def test_lanes_read_whole_blocks():
    # A lane owns runs of whole blocks: for large reads its 1,024 places must touch few of them.
    order = EpochOrder(640_000, 0, 0)
    lane = order.at(np.arange(0, 1024 * 64, 64))
    assert len(np.unique(lane // 64)) == 16


def test_batches_are_well_mixed():
    # Neighbours in the store may meet a little more often than by chance: the builder keeps them apart.
    for count in (2_000, 200_000):
        order = EpochOrder(count, 0, 0)
        pairs = [np.sum(np.diff(np.sort(order.at(np.arange(i * 256, (i + 1) * 256)) // 4)) == 0) for i in range(7)]
        chance = 256 * 255 / 2 * 3 / count
        assert np.mean(pairs) < 3 * chance + 8


def test_positions_outside_are_refused():
    order = EpochOrder(100, 0, 0)
    assert order.at(np.empty(0, np.int64)).tolist() == []
    for position in (-1, 100):
        with pytest.raises(IndexError):
            order.at(np.array([position]))
    with pytest.raises(ValueError, match="at least one"):
        EpochOrder(0, 0, 0)


def test_keyed_order_is_a_permutation_that_depends_on_its_key():
    assert sorted(keyed_order(1000, 5).tolist()) == list(range(1000))
    assert keyed_order(1000, 5).tolist() != keyed_order(1000, 6).tolist()
