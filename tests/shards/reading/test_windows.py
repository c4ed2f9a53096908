import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shards import DataError, Split
from shards.chunk import parse_name
from shards.reading.windows import cut, windows_of


@pytest.fixture(scope="module")
def split(data_dir):
    return Split.open(data_dir, "train")


@pytest.mark.parametrize(("samples", "per_record"), [(735, 3), (1000, 3), (1102, 3), (1103, 2), (2204, 2)])
def test_windows_cover_their_records_and_say_where_they_are(split, samples, per_record):
    windows = windows_of(split, samples)
    assert (windows.samples, len(windows), windows.rate) == (samples, per_record * len(split), split.rate)
    chosen = np.array([0, len(windows) - 1, per_record, per_record + 1, 0])
    audio = windows.read(chosen)
    sources, starts = windows.keys()
    whole, whole_starts = split.read(np.arange(len(split))), split.keys()[1]
    names = windows.names(chosen)
    for row, window in enumerate(chosen.tolist()):
        record = window // per_record
        place = int(starts[window] - whole_starts[record])
        assert torch.equal(audio[row], whole[record, place : place + samples])
        assert parse_name(names[row]) == (sources[window], starts[window])
        assert windows.place(window) == split.place(record)
    covered = np.zeros(split.samples, bool)
    for place in starts[:per_record] - whole_starts[0]:
        covered[place : place + samples] = True
    assert covered.all()
    out = torch.zeros(len(chosen), samples, dtype=torch.int16)
    assert windows.read(chosen, out) is out
    assert torch.equal(out, audio)
    assert windows.read(np.empty(0, np.int64)).shape == (0, samples)


def test_whole_records_are_the_split_itself(split):
    assert windows_of(split, 0) is split
    assert windows_of(split, split.samples) is split
    with pytest.raises(DataError, match=r"2,205 samples, less than a window of 2,206: .* --samples 2206"):
        windows_of(split, 2206)


def test_other_windows_have_other_fingerprints(split):
    found = {windows_of(split, samples).fingerprint for samples in (0, 700, 701)}
    assert len(found) == 3
    assert windows_of(split, 700).fingerprint in found


def test_a_window_outside_is_refused(split):
    windows = windows_of(split, 735)
    with pytest.raises(IndexError):
        windows.read(np.array([len(windows)]))


@given(st.data())
def test_cutting_equals_slicing(data):
    """Also out of a view whose rows are further apart than they are long, as the samples of records are."""
    rows, length, gap = (data.draw(st.integers(1, most)) for most in (5, 20, 7))
    samples = data.draw(st.integers(1, length))
    values = torch.arange(rows * (length + 2 * gap)).reshape(rows, -1)[:, gap : gap + length]
    chosen = np.array(data.draw(st.lists(st.integers(0, rows - 1), max_size=6)), np.int64)
    first = np.array([data.draw(st.integers(0, length - samples)) for _ in chosen], np.int64)
    found = cut(values, chosen, first, samples)
    assert found.shape == (len(chosen), samples)
    for out, row, place in zip(found, chosen, first, strict=True):
        assert torch.equal(out, values[row, place : place + samples])
