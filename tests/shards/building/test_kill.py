"""A build that is killed anywhere goes on to the same bytes, and does not do again what it had finished."""

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_builds import SMALL, add_recordings, build_here, contents, in_child

from shards.audio import recording
from shards.building import shuffle
from shards.building.build import build
from shards.verify import verify

LIMIT = 400  # changes to the file system that no build here makes


@pytest.fixture(autouse=True)
def here(monkeypatch):
    build_here(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # it is the process that dies here, not the machine
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 30)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed") / "audio"
    add_recordings(folder, range(5), seconds=0.4)
    (folder / "damaged.wav").write_bytes((folder / "00.wav").read_bytes()[:-1000])
    return folder


FEW = SMALL | {"chunks_per_shard": 10}


@pytest.mark.slow(area="building")
def test_killed_at_every_change_to_the_file_system(audio, tmp_path):
    build(audio, tmp_path / "whole", **FEW)
    expected = contents(tmp_path / "whole")
    assert len(expected) > 5
    for step in range(1, LIMIT):
        out = tmp_path / f"killed-{step}"
        code = in_child(lambda out=out: build(audio, out, **FEW), step)
        if code == 0:
            break
        assert code == -9
        if step % 3 == 0:  # and once more, a little later
            in_child(lambda out=out: build(audio, out, **FEW), step // 2)
        build(audio, out, **FEW)
        assert contents(out) == expected, f"after change {step}"
    assert 50 < step < LIMIT - 1
    verify(out)


def test_a_killed_task_and_a_killed_merge(audio, tmp_path):
    build(audio, tmp_path / "whole", **FEW)
    expected = contents(tmp_path / "whole")
    for step in range(1, LIMIT, 5):
        out = tmp_path / f"killed-{step}"
        codes = [in_child(lambda out=out, i=i: build(audio, out, **FEW, task=f"{i}/2"), step) for i in (1, 2)]
        build(audio, out, **FEW, task="1/2")
        build(audio, out, **FEW, task="2/2")
        assert contents(out) == expected, f"after change {step}"
        if codes == [0, 0]:
            break
    assert 20 < step < LIMIT - 5


def test_killed_while_adding(audio, tmp_path):
    first, more = tmp_path / "first", tmp_path / "more"
    for folder in (first, more):
        add_recordings(folder, range(3), seconds=0.4)
    build(first, tmp_path / "whole", **FEW)
    before = contents(tmp_path / "whole")
    add_recordings(first, range(3, 6), seconds=0.4)
    build(first, tmp_path / "whole", **FEW)
    expected = contents(tmp_path / "whole")
    for step in range(1, LIMIT, 4):
        out = tmp_path / f"killed-{step}"
        late = [file for file in more.iterdir() if file.name >= "03"]
        for file in late:
            file.unlink()
        build(more, out, **FEW)
        assert contents(out) == before
        add_recordings(more, range(3, 6), seconds=0.4)
        code = in_child(lambda out=out: build(more, out, **FEW), step)
        there = contents(out)
        # Until everything is there, the old data set is whole and the only one.
        if there["dataset.json"] == before["dataset.json"]:
            assert before.items() <= there.items()
            verify(out)
        build(more, out, **FEW)
        assert contents(out) == expected, f"after change {step}"
        if code == 0:
            break
    assert 20 < step < LIMIT - 4


class Stopped(BaseException):
    pass


@pytest.fixture
def counted(monkeypatch):
    """How often recordings were decoded and shards written; ``stop_at`` raises at a count."""
    counts, stop_at = Counter(), {}

    def count(module, name, what):
        original = getattr(module, name)

        def counting(*arguments, **named):
            if counts[what] == stop_at.get(what):
                raise Stopped
            counts[what] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(module, name, counting)

    count(recording.Decoder, "read", "recordings")
    count(shuffle.Shuffler, "_write", "shards")
    return counts, stop_at


def test_only_what_was_in_progress_is_done_again(audio, tmp_path, counted, monkeypatch):
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 10**6)
    counts, stop_at = counted
    build(audio, tmp_path / "whole", **FEW)
    whole = dict(counts)
    assert whole["recordings"] == 6
    assert whole["shards"] > 3
    for what in whole:
        for k in range(whole[what]):
            out = tmp_path / f"{what}-{k}"
            counts.clear()
            stop_at[what] = k
            with pytest.raises(Stopped):
                build(audio, out, **FEW)
            stop_at.clear()
            build(audio, out, **FEW)
            assert counts == whole
            assert contents(out) == contents(tmp_path / "whole")


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_machine_leaves_of_a_part_is_recognised(audio, tmp_path_factory, counted, monkeypatch, data):
    """After a power cut what was not yet synced may end anywhere, and hold zeros."""
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 10**6)
    counts, stop_at = counted
    tmp_path = tmp_path_factory.mktemp("torn")
    out = tmp_path / "out"
    stop_at["shards"] = counts["shards"] + data.draw(st.integers(0, 3), "shards")
    with pytest.raises(Stopped):
        build(audio, out, **FEW)
    stop_at.clear()
    for path in [*out.glob(".build/part-*/*"), *out.glob(".build/shards/*")]:
        content = bytearray(path.read_bytes())
        cut = data.draw(st.integers(0, len(content)), path.name)
        if data.draw(st.booleans(), "cut it"):
            del content[cut:]
        else:
            content[cut : cut + 50] = bytes(len(content[cut : cut + 50]))
        path.write_bytes(content)
    build(audio, out, **FEW)
    build(audio, tmp_path / "whole", **FEW)
    assert contents(out) == contents(tmp_path / "whole")
