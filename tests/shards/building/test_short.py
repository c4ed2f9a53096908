"""Short recordings that share chunks."""

import json

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from small_builds import SMALL, build_here, contents

from shards import Manifest, Split
from shards.building.build import build
from shards.building.joining import pack
from shards.building.report import padding
from shards.verify import verify

RATE = 22050


@pytest.fixture(autouse=True)
def here(monkeypatch):
    build_here(monkeypatch)
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 40)


@pytest.fixture
def audio(tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(60):
        length = int(draw.uniform(100, 2000)) if number % 10 else 6000
        soundfile.write(folder / f"{number:02d}.wav", 0.3 * draw.standard_normal(length), RATE)
    return folder


@given(st.lists(st.integers(1, 1000), min_size=1), st.integers(0, 100))
def test_recordings_lie_apart_and_inside_chunks(lengths, gap):
    begins = pack(lengths, 1000, gap)
    end = 0
    for begin, length in zip(begins, lengths, strict=True):
        assert begin >= end
        assert begin // 1000 == (begin + length - 1) // 1000
        assert begin % 1000 == 0 or begin - end >= gap
        end = begin + length


def test_every_sample_is_there_once_and_every_name_is_kept(audio, tmp_path):
    build(audio, tmp_path / "each", **SMALL)
    build(audio, tmp_path / "joined", **SMALL, join_short=True)
    verify(tmp_path / "joined")
    each, joined = (Manifest.load(tmp_path / name) for name in ("each", "joined"))
    assert padding(joined) < 0.5 * padding(each)
    assert {s.path: s.split for s in each.sources} == {s.path: s.split for s in joined.sources if s.members is None}
    found = {}
    for name in joined.splits:
        split = Split.open(tmp_path / "joined", name)
        sources, starts = split.keys()
        chunks = split.read(np.arange(len(split))).numpy()
        for source, start, chunk in zip(sources.tolist(), starts.tolist(), chunks, strict=True):
            members = joined.sources[source].members or []
            inside = [(row, begin, count) for row, begin, count in members if start <= begin < start + 2205]
            names = joined.recordings_at(source, start)
            assert names == [joined.sources[row].path for row, _, _ in inside] or not members
            for first in (0, 1500):  # windows of the chunk
                heard = [
                    row for row, begin, count in inside if begin - start < first + 500 and begin + count > start + first
                ]
                named = joined.recordings_at(source, start + first, 500)
                assert named == [joined.sources[row].path for row in heard] or not members
            silence = np.ones(2205, bool)
            for row, begin, count in inside:
                assert joined.sources[row].split == name
                found[row] = chunk[begin - start : begin - start + count]
                silence[begin - start : begin - start + count] = False
            assert not members or not chunk[silence].any()
    short = [row for row, source in enumerate(joined.sources) if source.members is None and source.chunks == 0]
    assert sorted(found) == short
    assert len(short) == 54
    for row in short:
        source = joined.sources[row]
        right = soundfile.read(audio / source.path, dtype="float32")[0] * 10 ** (source.gain_db / 20) * 32768
        assert np.abs(found[row] - right).max() < 1


def test_more_recordings_and_tasks_and_another_build_of_the_same(audio, tmp_path):
    build(audio, tmp_path / "a", **SMALL, join_short=True)
    for task in ("2/2", "1/2"):
        build(audio, tmp_path / "b", **SMALL, join_short=True, task=task)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    before = Manifest.load(tmp_path / "a").sources
    draw = np.random.default_rng(1)
    for number in range(70, 90):
        soundfile.write(audio / f"{number}.wav", 0.3 * draw.standard_normal(700), RATE)
    build(audio, tmp_path / "a", **SMALL, join_short=True)
    after = Manifest.load(tmp_path / "a").sources
    assert after[: len(before)] == before
    assert sum(source.members is None for source in after) == 80
    verify(tmp_path / "a")
    build(audio, tmp_path / "a", **SMALL, join_short=True)
    assert Manifest.load(tmp_path / "a").sources == after


def test_padding_is_named(audio, tmp_path, capsys):
    build(audio, tmp_path / "each", **SMALL)
    told = capsys.readouterr().out
    assert "% of the chunks is padding, as 54 recordings are shorter than a chunk: --join-short lets them share" in told
    content = json.loads((tmp_path / "each" / "dataset.json").read_text())
    lengths = [min(1, source["duration_s"] * RATE / 2205) for source in content["sources"] if source["chunks"] == 1]
    right = (len(lengths) - sum(lengths)) / sum(source["chunks"] for source in content["sources"])
    assert padding(Manifest.load(tmp_path / "each")) == pytest.approx(right, abs=1e-6)
