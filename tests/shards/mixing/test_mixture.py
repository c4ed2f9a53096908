from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shards import DataError
from shards.mixing.mixture import LONGEST_PERIOD, MixedSet, Mixture, seed_of, whole_shares


def mixture_of(parts, begins=None):
    begins = begins or [0] * len(parts)
    return Mixture(tuple(MixedSet(f"f{k}", k, part, begins[k]) for k, part in enumerate(parts)))


many_parts = st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any)


@given(many_parts, st.integers(0, 5000), st.data())
def test_every_prefix_holds_the_shares(parts, length, data):
    mixture = mixture_of(parts)
    sets, places = mixture.at(np.arange(length))
    for number, part in enumerate(parts):
        counts = np.cumsum(sets == number)
        exact = np.arange(1, length + 1) * part / sum(parts)
        assert np.abs(counts - exact).max(initial=0.0) <= (1 + len(parts)) / 2
        # Each set is gone through in its order, place by place.
        assert places[sets == number].tolist() == [*range(int((sets == number).sum()))]
    prefix = data.draw(st.integers(0, length))
    assert mixture.taken(prefix) == [int((sets[:prefix] == number).sum()) for number in range(len(parts))]


@given(many_parts, st.integers(0, 1 << 50))
def test_far_places_are_found_without_counting(parts, place):
    mixture = mixture_of(parts)
    sets, places = mixture.at(np.array([place]))
    taken = mixture.taken(place)
    assert sum(taken) == place
    assert places[0] == taken[sets[0]]


@given(
    st.lists(st.integers(0, 9), min_size=3, max_size=3), st.integers(0, 400), st.lists(st.integers(0, 9), max_size=4)
)
def test_other_shares_go_on_where_each_set_is(parts, place, later):
    assume(any(parts) and any(later))
    mixture = mixture_of(parts, [5, 0, 7])
    wanted = [(f"f{k + 1}", part) for k, part in enumerate(later) if part]
    after = mixture.continued(place, *zip(*wanted, strict=True))
    known = dict(zip(("f0", "f1", "f2"), mixture.taken(place), strict=True))
    assert {one.fingerprint: one.begin for one in after.sets} == known | {
        name: known.get(name, 0) for name, _ in wanted
    }
    assert after.has(*zip(*wanted, strict=True))
    assert [one.number for one in after.sets] == [*range(len(after.sets))]
    assert Mixture.from_json(after.to_json()) == after


def test_a_set_that_comes_back_goes_on_where_it_was():
    first = mixture_of([1, 1])
    without = first.continued(10, ["f0"], [1])
    back = without.continued(100, ["f1", "f0"], [3, 1])
    assert [(one.fingerprint, one.parts, one.begin) for one in back.sets] == [("f0", 1, 105), ("f1", 3, 5)]


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        [1],
        [{"fingerprint": "a", "number": 0, "parts": 1}],
        [{"fingerprint": "a", "number": 1, "parts": 1, "begin": 0}],
        [{"fingerprint": "a", "number": 0, "parts": 0, "begin": 0}],
        [{"fingerprint": "a", "number": 0, "parts": 1 << 40, "begin": 0}],
        [{"fingerprint": "a", "number": 0, "parts": 1, "begin": -1}],
        [{"fingerprint": "a", "number": 0, "parts": 1, "begin": 1 << 70}],
        [{"fingerprint": "a", "number": 0, "parts": True, "begin": 0}],
        [{"fingerprint": "a", "number": k, "parts": 1, "begin": 0} for k in range(2)],
    ],
)
def test_a_state_that_is_none_is_refused(content):
    with pytest.raises(ValueError, match=r"mixture|set"):
        Mixture.from_json(content)


def share(text):
    return None if text is None else Fraction(text)


@pytest.mark.parametrize(
    ("shares", "counts", "parts"),
    [
        ([None, "0.3"], [100, 7], (7, 3)),
        (["2", "1"], [5, 5], (2, 1)),
        (["0.7", "0.3"], [5, 5], (7, 3)),
        ([None, None], [300, 100], (3, 1)),
        ([None, "0.5", None], [100, 1, 300], (1, 4, 3)),
        (["1", "1", "1"], [1, 2, 3], (1, 1, 1)),
    ],
)
def test_shares_as_whole_numbers(shares, counts, parts):
    assert whole_shares([*map(share, shares)], counts, ["a", "b", "c"][: len(counts)]) == parts


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=8))
def test_sizes_of_any_kind_give_a_short_period(counts):
    parts = whole_shares([None] * len(counts), counts, [*map(str, counts)])
    assert min(parts) >= 1
    assert sum(parts) <= LONGEST_PERIOD
    for part, count in zip(parts, counts, strict=True):
        assert abs(part / sum(parts) - count / sum(counts)) <= 2 * len(counts) / LONGEST_PERIOD


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(DataError, match="add up to 1 and leave nothing for music"):
        whole_shares([None, Fraction(1)], [5, 5], ["music", "speech"])


def test_the_first_set_has_the_seed_of_the_run():
    assert seed_of(7, 0) == 7
    assert len({seed_of(7, number) for number in range(50)}) == 50
