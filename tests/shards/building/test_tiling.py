import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.tiling import chunk_starts, left_out


@given(st.integers(1, 3000), st.integers(1, 400), st.data())
def test_every_sample_is_covered(length, chunk, data):
    hop = data.draw(st.integers(1, chunk))
    starts = chunk_starts(length, chunk, hop)
    assert starts.dtype == np.int64
    assert starts[0] == 0
    assert starts[-1] == max(length - chunk, 0)
    assert ((np.diff(starts) > 0) & (np.diff(starts) <= hop)).all()
    assert (starts[:-1] % hop == 0).all()


def test_short_and_empty():
    assert chunk_starts(0, 10, 5).tolist() == []
    assert chunk_starts(3, 10, 5).tolist() == [0]
    assert chunk_starts(10, 10, 5).tolist() == [0]
    assert chunk_starts(11, 10, 5).tolist() == [0, 1]


@pytest.mark.parametrize("hop", [0, 11])
def test_a_hop_that_loses_samples_is_refused(hop):
    with pytest.raises(ValueError, match="hop"):
        chunk_starts(100, 10, hop)


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.floats(0, 1))
def test_silence_is_capped_and_nothing_else_is_left_out(silent, most):
    silent = np.array(silent)
    without = left_out(silent, most)
    assert silent[without].all()
    assert (np.diff(without) > 0).all()
    stay = len(silent) - len(without)
    quiet = silent.sum() - len(without)
    assert quiet <= most * stay + 1e-6
    # One more would be too many.
    assert len(without) == 0 or quiet + 1 > most * (stay + 1) - 1e-6


def test_what_stays_of_the_silence_is_spread():
    silent = np.array([False] * 90 + [True] * 100)
    without = left_out(silent, 0.1)
    stay = np.setdiff1d(np.arange(90, 190), without)
    assert stay.tolist() == [95, 105, 115, 125, 135, 145, 155, 165, 175, 185]
    assert left_out(silent, 1).tolist() == []
    assert left_out(silent, 0).tolist() == list(range(90, 190))
    assert left_out(np.ones(9, bool), 0.99).tolist() == list(range(9))
