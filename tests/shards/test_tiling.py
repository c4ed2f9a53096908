import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.building.tiling import chunk_starts


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
