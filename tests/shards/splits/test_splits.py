"""Splits by chance, by files and folders, and inside a recording."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import DataError
from shards.splits.chance import Unit, draw
from shards.splits.given import grouping, splits_of_folders, splits_of_table
from shards.splits.tail import spans
from shards.splits.units import joined

keys = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")
lengths = st.floats(0.1, 5000)
some_units = st.dictionaries(keys, lengths, min_size=2, max_size=40).map(
    lambda found: [Unit(key, seconds) for key, seconds in found.items()]
)


@settings(max_examples=300)
@given(some_units, st.sampled_from([0.01, 0.1, 0.3]), st.sampled_from([0.0, 0.1]))
def test_the_share_is_one_of_duration(units, valid, test):
    split = draw(units, {"valid": valid, "test": test}, {})
    total = sum(unit.seconds for unit in units)
    held = {name: sum(unit.seconds for unit in units if split[unit.key] == name) for name in ("train", "valid", "test")}
    assert held["train"] > 0
    longest = max(units, key=lambda unit: unit.seconds)
    if longest.seconds > total / 2:
        assert split[longest.key] == "train"
    for name, share in (("valid", valid), ("test", test)):
        assert bool(held[name]) <= (share > 0)
        # More than a third too much only where that is the single unit that is nearest.
        members = [unit.seconds for unit in units if split[unit.key] == name]
        assert len(members) <= 1 or held[name] <= 4 / 3 * share * total + 1e-6
    assert held["valid"] > 0 or (test and len(units) == 2)


def test_large_sets_meet_the_share():
    units = [Unit(f"{number * 0x9E3779B97F4A7C15 % 2**64:032x}"[::-1], 60.0) for number in range(1, 2000)]
    split = Counter(draw(units, {"valid": 0.1}, {}).values())
    assert 0.075 < split["valid"] / len(units) < 0.125


@given(some_units, st.integers(0, 30))
def test_what_is_there_counts_and_the_order_does_not(units, shuffled):
    there = {"train": 1000.0, "valid": 500.0}
    split = draw(units, {"valid": 0.01}, there)
    assert draw(units[shuffled:] + units[:shuffled], {"valid": 0.01}, there) == split
    if sum(unit.seconds for unit in units) < 10_000:
        assert set(split.values()) == {"train"}  # more than enough is held out already


def test_two_recordings_of_which_one_is_long():
    for seed in range(20):
        units = [Unit(f"{seed * 7919 % 256:02x}" + "0" * 30, 600.0), Unit(f"{seed * 104729 % 251:02x}" + "1" * 30, 3.0)]
        assert draw(units, {"valid": 0.1}, {})[units[0].key] == "train"


def test_groups_of_paths(tmp_path):
    folder = grouping("folder")
    assert [folder(path) for path in ("a/b/c.wav", "a/b/d.wav", "e.wav")] == ["a/b", "a/b", ""]
    artist = grouping(r"^([^-]+) - ")
    assert [artist(path) for path in ("Ann - x.wav", "Ann - y.wav", "z.wav")] == ["Ann", "Ann", ""]
    assert grouping(r"take\d")("a take2.wav") == "take2"
    assert grouping("")("a/b.wav") == ""
    table = tmp_path / "groups.csv"
    table.write_text("path,group\na.wav,one\n./b.wav, one \n", encoding="utf-8-sig")
    assert [grouping(str(table))(path) for path in ("a.wav", "b.wav", "c.wav")] == ["one", "one", ""]
    with pytest.raises(DataError, match=r"--group-by \( is neither `folder` nor a CSV file nor a regular expression"):
        grouping("(")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lists nothing"),
        ("path,split\n", "lists nothing"),
        ("file,split\na.wav,train\n", "line 2 has no split; its first line must name path and split"),
        ("path,split\na.wav\n", "line 2 has no split"),
        ("path,split\na.wav,train\na.wav,valid\n", "a.wav is listed twice"),
        ("path,split\na.wav,often\n", "a.wav is in a split 'often': give train, valid or test"),
        ("path,split\nb.wav,train\n", r"1 recordings are not listed in .* \('a.wav'\)"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_clear_error(tmp_path, content, message):
    table = tmp_path / "splits.csv"
    table.write_text(content)
    with pytest.raises(DataError, match=message):
        splits_of_table(str(table), ["a.wav"])
    with pytest.raises(DataError, match=r"--splits .*none.csv cannot be read: No such file"):
        splits_of_table(str(tmp_path / "none.csv"), ["a.wav"])


def test_folders_with_the_names_of_splits():
    paths = ["train/a.wav", "Validation/x/b.wav", "dev/c.wav", "test/d.wav"]
    assert list(splits_of_folders(paths).values()) == ["train", "valid", "valid", "test"]
    with pytest.raises(DataError, match=r"2 recordings lie in no folder train, valid or test.*'a.wav', 'other/b.wav'"):
        splits_of_folders([*paths, "a.wav", "other/b.wav"])


@given(st.integers(1, 10**6), st.integers(1, 5000), st.floats(0, 0.6), st.floats(0, 0.3))
def test_the_parts_of_a_recording_lie_a_chunk_apart(samples, chunk, valid, test):
    parts = spans(samples, chunk, {"valid": valid, "test": test})
    assert parts["train"][0] == 0
    ordered = sorted(parts.values())
    assert ordered[-1][1] == samples
    for (_, end), (begin, _) in pairwise(ordered):
        assert begin - end == chunk
    if len(parts) > 1:
        assert all(end - begin >= chunk for begin, end in ordered)
        assert set(parts) == {"train"} | {name for name, share in (("valid", valid), ("test", test)) if share > 0}
        assert abs((parts["valid"][1] - parts["valid"][0]) - valid * samples) <= chunk if "valid" in parts else True


def test_a_short_recording_is_not_divided():
    assert spans(1000, 1000, {"valid": 0.1}) == {"train": (0, 1000)}
    assert spans(3000, 1000, {"valid": 0.1}) == {"train": (0, 3000)}
    assert spans(4000, 1000, {"valid": 0.1}) == {"train": (0, 2000), "valid": (3000, 4000)}


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20))))
def test_what_is_linked_has_one_first(links):
    first = joined(links)
    assert all(first[one] == first[two] for one, two in links)
    assert all(first[value] == value for value in first.values())
    seen = [one for pair in links for one in pair]
    for one, value in first.items():
        assert seen.index(value) <= seen.index(one)
