import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shards.order import EpochOrder, keyed_order, splitmix64

GOLDEN = [65287, 37675, 34471, 81255, 24370, 39400, 20116, 35129]
GOLDEN_SMALL = [8, 6, 5, 9, 0, 1, 7, 4, 2, 3]


def test_splitmix64_is_the_published_one():
    # The first outputs of the reference generator from state 1234567: its state grows by the golden gamma.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + i * gamma) % 2**64 for i in range(3)], np.uint64)
    assert splitmix64(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 2**64 - 1), st.integers(0, 1000))
@example(1, 0, 0)
def test_small_lanes_are_a_bijection(count, seed, epoch):
    order = EpochOrder(count, seed, epoch, block=4, lanes=5, window=3)
    assert sorted(order.at(np.arange(count)).tolist()) == list(range(count))


@pytest.mark.parametrize("count", [1, 2, 65535, 65536, 65537, 65599, 70001, 200_003])
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
    assert len(np.unique(lane // 64)) <= 18


def test_batches_are_well_mixed():
    # Neighbours in the store should meet in a batch hardly more often than by chance.
    for count in (2_000, 200_000):
        order = EpochOrder(count, 0, 0)
        pairs = [np.sum(np.diff(np.sort(order.at(np.arange(i * 256, (i + 1) * 256)) // 4)) == 0) for i in range(7)]
        chance = 256 * 255 / 2 * 3 / count
        assert np.mean(pairs) < 3 * chance + 3


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
