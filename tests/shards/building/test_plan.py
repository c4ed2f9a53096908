from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards import DataError
from shards.building.part import skipped
from shards.building.plan import Plan, Settings, assign_splits, make_plan
from shards.building.probe import Candidate
from shards.building.report import split_warnings
from shards.manifest import Level, Manifest, Shard, Source

FOLDER = Path("recordings")


def candidates(count, seconds=10.0, seed=0):
    rng = np.random.default_rng(seed)
    return [Candidate(f"{seed}-{i:04d}.wav", 1, 1, rng.bytes(16).hex(), seconds, "") for i in range(count)]


def settings(**changes):
    base = {"rate": 100, "samples": 100, "hop": 50, "level": "peak", "valid": 0.1, "test": 0.05}
    return Settings(**base | {"chunks_per_shard": 50, "max_silence": 1.0} | changes)


def assigned(chosen: Settings, found: list[Candidate], old: list[Source] = ()) -> list[Candidate]:
    """The candidates with their splits."""
    split = assign_splits(chosen, dict(enumerate(found, start=len(old))), old)
    return [replace(one, split=split.get(row)) for row, one in enumerate(found, start=len(old))]


def kept(candidate: Candidate) -> Source:
    row = skipped(candidate, "")
    span = [0, 1] if candidate.divided else None
    return replace(row, split=candidate.split, chunks=1, duration_s=candidate.seconds, peak=1.0, rms=0.1, span=span)


def dataset(plan: Plan, base: Manifest | None = None, last_part: int = 7) -> Manifest:
    """What a plan becomes, but for the chunks."""
    sources = list(base.sources) if base else []
    for row, candidate in sorted(plan.sources.items()):
        sources[row : row + 1] = [skipped(candidate, candidate.problem) if candidate.problem else kept(candidate)]
    splits = {source.split for source in sources} - {None}
    shards = {split: [Shard(f"{split}-{last_part:05d}-000.tar", 1, 1, "")] for split in splits}
    levels = {split: Level.of([s for s in sources if s.split == split]) for split in splits}
    return Manifest(100, 100, 50, "peak", {}, shards, levels, sources)


def test_splits_follow_content_and_do_not_move():
    many = candidates(2000)
    all_of_them = {c.path: c.split for c in assigned(settings(), many)}
    counts = Counter(all_of_them.values())
    assert counts["valid"] == pytest.approx(200, abs=50)
    assert counts["test"] == pytest.approx(100, abs=40)
    half = {c.path: c.split for c in assigned(settings(), many[::2])}
    assert half.items() <= all_of_them.items()


@pytest.mark.parametrize("count", range(2, 9))
def test_small_sets_have_both_splits(count):
    for valid in (0.001, 0.1, 0.5, 0.999):
        splits = Counter(c.split for c in assigned(settings(valid=valid, test=0), candidates(count)))
        assert splits["valid"] >= 1
        assert splits["train"] >= 1
    splits = Counter(c.split for c in assigned(settings(valid=0, test=0), candidates(count)))
    assert splits == {"train": count}


@pytest.mark.parametrize("seconds", [0.5, 10.0])
def test_a_single_recording_is_for_training(seconds):
    for valid in (0.001, 0.999):
        for found in (candidates(1, seconds), candidates(1, seconds) * 3):
            assert {c.split for c in assigned(settings(valid=valid, test=0), found)} == {"train"}


def test_copies_share_a_split_and_short_ones_are_not_chosen():
    pair = candidates(1) * 2
    assert len({c.split for c in assigned(settings(valid=0.5), pair)}) == 1
    longer, long = (
        Candidate(f"{seconds}.wav", 1, 1, letter * 32, seconds, "") for seconds, letter in ((9.0, "f"), (8.0, "e"))
    )
    found = {c.path: c.split for c in assigned(settings(valid=0.001, test=0), [*candidates(3, 0.5), longer, long])}
    assert [path for path, split in found.items() if split == "valid"] == ["8.0.wav"]


def test_parts_hold_every_recording_once(monkeypatch):
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 200)
    plan = make_plan(settings(), candidates(300), None, FOLDER)
    rows = [row for part in plan.parts for row in part.sources]
    assert sorted(rows) == list(range(300))
    chunks = [19 * len(part.sources) for part in plan.parts]
    assert all(200 <= size < 220 for size in chunks[:-1])
    other = make_plan(settings(hop=51), candidates(300), None, FOLDER)
    assert plan.key != other.key


def test_a_plan_is_the_same_after_a_file(monkeypatch):
    awkward = [
        replace(c, path=name) for c, name in zip(candidates(3), ["a\nb.wav", "\udcff.wav", 'q"\\.wav'], strict=True)
    ]
    plan = make_plan(settings(), awkward, None, FOLDER)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.key == plan.key
    assert again.parts == plan.parts


counts = st.lists(st.integers(0, 4), min_size=1, max_size=5)


@given(counts, st.sampled_from([0.0, 0.001, 0.1, 0.5]), st.randoms())
def test_adding_moves_nothing(batches, valid, random):
    """Recordings that came earlier keep row and split, later ones come behind, copies stay together."""
    chosen = settings(valid=valid, test=0)
    folder, manifest, numbered = [], None, 0
    for seed, count in enumerate(batches):
        new = candidates(count, seed=seed)
        if folder and random.random() < 0.5:
            new.append(replace(random.choice(folder), path=f"{seed}-copy.wav"))
        folder = sorted([*folder, *new], key=lambda c: c.path)
        before = list(manifest.sources) if manifest else []
        plan = make_plan(chosen, folder, manifest, FOLDER)
        divided = not before and len(new) == 1 and valid > 0
        assert sorted(plan.sources) == list(range(len(before), len(before) + len(new) + divided))
        assert sorted({c.path for c in plan.sources.values()}) == sorted(c.path for c in new)
        assert [c.divided for c in plan.sources.values()] == [divided] * (len(new) + divided)
        assert all(part.index >= numbered for part in plan.parts)
        numbered += len(plan.parts)
        if plan.sources:
            manifest = dataset(plan, manifest, numbered - 1)
            assert manifest.sources[: len(before)] == before
        if manifest is None:
            continue
        splits = {}
        alone = {source.path for source in manifest.sources if source.span}
        for source in manifest.sources:
            if source.path not in alone:
                assert splits.setdefault(source.fingerprint, source.split) == source.split
        if len(splits) > 1 and valid > 0 and seed == 0:
            assert {"train", "valid"} <= set(splits.values())


def test_an_empty_split_is_filled_by_a_new_recording():
    chosen = settings(valid=1e-9, test=0)
    first = make_plan(chosen, candidates(1) * 2, None, FOLDER)
    manifest = dataset(first)
    assert [source.split for source in manifest.sources] == ["train", "train"]
    plan = make_plan(chosen, [*candidates(1), *candidates(2, seed=1)], manifest, FOLDER)
    assert Counter(c.split for c in plan.sources.values()) == {"valid": 1, "train": 1}
    assert plan.first_part == 8
    assert plan.base == manifest.fingerprint


def test_changed_and_lost_recordings_are_refused():
    old = candidates(9)
    manifest = dataset(make_plan(settings(), old, None, FOLDER))
    changed = [replace(c, fingerprint="0" * 32) if c.path.endswith(("2.wav", "5.wav")) else c for c in old]
    with pytest.raises(DataError, match=r"2 recordings have changed .*0002\.wav', '0-0005\.wav'\)"):
        make_plan(settings(), changed, manifest, FOLDER)
    unreadable = [replace(old[0], fingerprint="", problem="unreadable: Permission denied"), *old[1:]]
    with pytest.raises(DataError, match="1 recordings have changed"):
        make_plan(settings(), unreadable, manifest, FOLDER)
    with pytest.raises(DataError, match=r"8 recordings are no longer there .*0004\.wav', \.\.\.\)"):
        make_plan(settings(), [*old[8:], *candidates(3, seed=1)], manifest, FOLDER)


def test_a_file_that_was_skipped_may_change_and_go():
    old = candidates(4)
    broken = [replace(c, path=f"broken{i}.wav", problem="truncated") for i, c in enumerate(candidates(3, seed=1))]
    manifest = dataset(make_plan(settings(), sorted([*old, *broken], key=lambda c: c.path), None, FOLDER))
    assert [source.path for source in manifest.sources[-3:]] == ["broken0.wav", "broken1.wav", "broken2.wav"]
    mended = replace(broken[1], problem="", fingerprint="a" * 32)
    new = candidates(1, seed=2)
    plan = make_plan(settings(), [*old, broken[0], mended, *new], manifest, FOLDER)
    assert {row: c.path for row, c in plan.sources.items()} == {5: "broken1.wav", 7: new[0].path}
    assert make_plan(settings(), [*old, *broken], manifest, FOLDER).sources == {}


@given(st.lists(st.floats(1, 100), min_size=2, max_size=12), st.floats(0, 0.9), st.integers(0, 99))
def test_what_is_longer_than_all_others_together_is_for_training(lengths, valid, seed):
    longest = 1.1 * sum(lengths)
    drawn = candidates(len(lengths) + 1, seed=seed)
    drawn = [replace(one, seconds=seconds) for one, seconds in zip(drawn, [longest, *lengths], strict=True)]
    split = assigned(settings(valid=valid, test=0), drawn)
    assert split[0].split == "train"
    assert {c.split for c in split[1:]} & {"valid"} or valid == 0
    added = [*drawn, *candidates(3, seed=seed + 1000)]
    base = [kept(c) for c in split]
    assert [c.split for c in assigned(settings(valid=valid, test=0), added[-3:], base)].count(None) == 0


def manifest_of(**held: tuple[float, int]) -> Manifest:
    """A manifest with splits of so many hours and chunks."""
    levels = {name: Level(chunks, hours, 0.1, 1.0, 0, 0) for name, (hours, chunks) in held.items()}
    shards = {name: [Shard(f"{name}-00000-000.tar", chunks, 1, "")] for name, (_, chunks) in held.items()}
    return Manifest(100, 100, 50, "peak", {}, shards, levels, [])


def test_unusual_splits_are_named():
    assert split_warnings(manifest_of(train=(9.0, 900), valid=(1.0, 100))) == []
    assert split_warnings(manifest_of(train=(1.0, 100))) == []
    (little,) = split_warnings(manifest_of(train=(0.5, 50), valid=(0.5, 50)))
    assert "only 50 % of the audio is for training" in little
    (few,) = split_warnings(manifest_of(train=(9.0, 900), valid=(0.1, 19)))
    assert "only 19 chunks are held out" in few
