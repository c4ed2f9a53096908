from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards import DataError
from shards.manifest.joining import set_names
from shards.mixing.places import Place, join_places, parse_places, text_of


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("music", [Place("music")]),
        ("music:0.3", [Place("music:0.3")]),  # one set has no share
        ("music/:-6dB", [Place("music/", None, -6.0)]),
        ("music/ + speech/:0.3", [Place("music/"), Place("speech/", Fraction(3, 10))]),
        ("a:2 + b:1:+1.5 dB", [Place("a", Fraction(2)), Place("b", Fraction(1), 1.5)]),
        ("a:1/:0.5 + b", [Place("a:1/", Fraction(1, 2)), Place("b")]),
        ("s3://bucket/x:.25 + https://host:8080", [Place("s3://bucket/x", Fraction(1, 4)), Place("https://host:8080")]),
        ("https://host:8080/:0.5 + b", [Place("https://host:8080/", Fraction(1, 2)), Place("b")]),
        ("a+b + c++", [Place("a+b"), Place("c++")]),
        ("rock ++ pop + x", [Place("rock + pop"), Place("x")]),
    ],
)
def test_names_of_data_sets(text, places):
    assert parse_places(text) == places


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a + b:0", "share of 0"),
        ("a +  + b", "empty data set"),
        ("a:+90dB", "beyond 60 dB"),
        (join_places(["x"] * 65), "more than 64"),
    ],
)
def test_what_cannot_be_meant_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        parse_places(text)


names = st.text("abc/._-+: 1", min_size=1, max_size=9).map(lambda text: f"x{text.strip()}x")
shares = st.integers(1, 10**12 - 1).map(lambda count: Fraction(count, 10**6))
gains = st.integers(-600, 600).map(lambda tenths: tenths / 10)


@given(st.lists(st.builds(Place, names, st.none() | shares, gains), min_size=2, max_size=5))
def test_a_set_at_another_path_keeps_share_and_gain(places):
    text = join_places([place.moved_to(place.path) for place in places])
    found = parse_places(text)
    assert [replace(one, path=one.path.rstrip("/")) for one in found] == places


@pytest.mark.parametrize("name", ["x:2", "x:-6dB", "x:2:-6dB", "rock + pop", "rock ++ pop", "x +", "http://host:80"])
@pytest.mark.parametrize("others", [[], ["b:0.3"], ["b:-1dB"]])
@pytest.mark.parametrize("gain", [0.0, -3.0])
def test_a_name_that_looks_like_a_share_or_several_sets_stays_a_name(name, others, gain):
    places = [Place(name, None, gain), *(parse_places("z + " + other)[1] for other in others)]
    found = parse_places(text_of(places, str))
    assert [replace(one, path=one.path.rstrip("/")) for one in found] == places


@given(st.lists(st.sampled_from(["a", "b", "x/a", "y/a", "a-2", "s3://b/a", "a/", "x/b"]), min_size=1, max_size=7))
def test_short_names_are_unique(places):
    found = set_names(places)
    assert len({*found}) == len(places)
    assert all(name.startswith(place.rstrip("/").split("/")[-1]) for name, place in zip(found, places, strict=True))


def test_places_without_a_name_have_one():
    assert set_names([".", "..", "/"]) == ["data", "data-2", "data-3"]
