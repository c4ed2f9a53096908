"""Random numbers of rows: uniform, independent of each other, and the same for every division of a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.augment.draws import Draws, Purpose, seed_of_others

SEEDS = st.integers(0, 2**63 - 1)


@given(SEEDS, st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=20), st.data())
def test_a_row_has_the_same_numbers_whichever_rows_are_with_it(seed, step, rows, data):
    rows, purpose = np.array(rows), data.draw(st.sampled_from(Purpose))
    whole = Draws(seed, step, rows)
    some = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1))
    part = Draws(seed, step, rows[some])
    assert np.array_equal(part.bits(purpose), whole.bits(purpose)[some])
    assert np.array_equal(part.uniform(purpose, -3, 5), whole.uniform(purpose, -3, 5)[some])


@given(SEEDS, st.integers(0, 10**6), st.lists(st.integers(1, 2**26), min_size=1, max_size=20))
def test_whole_numbers_stay_below_their_limits(seed, step, limits):
    found = Draws(seed, step, np.arange(len(limits))).below(np.array(limits), Purpose.CROP)
    assert (found >= 0).all()
    assert (found < np.array(limits)).all()


def test_whole_numbers_are_uniform_over_rows_and_over_steps():
    limit, rows = 7, 70_000
    of_rows = Draws(3, 5, np.arange(rows)).below(np.full(rows, limit), Purpose.CROP)
    of_steps = [int(Draws(3, step, np.array([2])).below(np.array([limit]), Purpose.CROP)[0]) for step in range(7000)]
    for found in (of_rows, np.array(of_steps)):
        share = np.bincount(found, minlength=limit) / len(found)
        assert share == pytest.approx(1 / limit, abs=5 * (limit * len(found)) ** -0.5)


@pytest.mark.parametrize("purpose", Purpose)
def test_numbers_lie_between_their_ends_and_fill_the_range(purpose):
    found = np.sort(Draws(1, 2, np.arange(20_000)).uniform(purpose, -2, 6))
    assert np.abs(found - np.linspace(-2, 6, 20_000)).max() < 8 * 0.015  # Kolmogorov and Smirnov


def test_purposes_steps_and_seeds_have_other_numbers():
    rows = np.arange(1000)
    tables = [Draws(seed, step, rows).uniform(purpose) for seed in (0, 1) for step in (0, 1) for purpose in Purpose]
    correlation = np.corrcoef(tables) - np.eye(len(tables))
    assert np.abs(correlation).max() < 0.16


def test_all_or_no_row_belongs_to_a_share_of_1_or_0():
    draws = Draws(0, 0, np.arange(50))
    assert draws.chosen(1.0, Purpose.GAIN).tolist() == [*range(50)]
    assert draws.chosen(0.0, Purpose.GAIN).tolist() == []


@given(SEEDS)
def test_the_order_of_mixed_chunks_has_a_seed_of_63_bits(seed):
    assert 0 <= seed_of_others(seed) < 2**63
    assert seed_of_others(seed) != seed
