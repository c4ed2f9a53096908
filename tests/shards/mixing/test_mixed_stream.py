import hashlib
import shutil
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from range_server import RangeServer

from shards import BatchStream, Cursor, Split
from shards.building.build import build
from shards.mixing.mixture import MixedSet, Mixture
from shards.reading.mixed_reader import MixedReader
from shards.reading.mixed_schedule import MixedSchedule, share_of_rank
from shards.reading.order import EpochOrder
from tests.shards.small_builds import add_recordings

SMALL = partial(EpochOrder, block=4, lanes=4, window=2)
RECORD = 8192  # bytes of the records of 2,205 samples
MEMORY = {"map": None, "arena": 100 * 4 * RECORD, "rows": 0, "one arena": 9 * 4 * RECORD}


@pytest.fixture(scope="module")
def split(tmp_path_factory, data_dir):
    """A large set and one of 11 chunks."""
    root = tmp_path_factory.mktemp("second")
    add_recordings(root / "audio", range(2), 0.28)
    build(root / "audio", root / "tiny", samples=2205, hop=1000, valid=0, workers=1)
    return Split.open(f"{data_dir} + {root / 'tiny'}", "train")


def mixture_of(split, parts, begins=(0, 0)):
    rows = zip(split.sets, parts, begins, strict=True)
    return Mixture(tuple(MixedSet(one.fingerprint, k, part, begin) for k, (one, part, begin) in enumerate(rows)))


def in_order(batch):
    """The chunks of a whole batch by their rows."""
    return batch.chunks[np.argsort(np.asarray(batch.rows))]


def take(split, kind, steps, *args, **more):
    with BatchStream(split, *args, memory=MEMORY[kind], order=SMALL, **more) as stream:
        if kind != "map":
            assert isinstance(stream.reader, MixedReader)
            there = [arena is not None for arena in stream.reader.arenas]
            assert kind == "arena" or not all(there)
            assert kind != "one arena" or any(there)
        return [replace(batch, records=batch.records.clone()) for batch in islice(stream, steps)]


@pytest.mark.parametrize("kind", MEMORY)
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_together_see_the_mixture_of_one(split, world, kind):
    mixture, batch, steps = mixture_of(split, (3, 1)), 16, 60
    alone = take(split, "map", steps, batch, 5, mixture=mixture)
    ranks = [take(split, kind, steps, batch, 5, rank, world, mixture=mixture) for rank in range(world)]
    for step, one in enumerate(alone):
        chunks = np.full(batch, -1)
        for rank, batches in enumerate(ranks):
            mine = batches[step]
            assert len(mine.rows) == len(range(rank, batch, world))
            assert (mine.cursor, mine.next_cursor) == (one.cursor, one.next_cursor)
            assert torch.equal(mine.audio, split.read(mine.chunks))
            chunks[mine.rows.numpy()] = mine.chunks
        assert chunks.tolist() == in_order(one).tolist()


def test_each_set_has_its_own_epochs_and_share(split):
    mixture, batch = mixture_of(split, (3, 1)), 16
    large, tiny = (one.chunks for one in split.sets)
    steps = 4 * (large // batch)
    chunks = np.concatenate([in_order(one) for one in take(split, "map", steps, batch, 5, mixture=mixture)])
    for number, share in ((0, 0.75), (1, 0.25)):
        mine = chunks[split.set_of(chunks) == number]
        assert len(mine) == share * len(chunks)
        count = split.sets[number].chunks
        for epoch in range(len(mine) // count):
            once = mine[epoch * count : (epoch + 1) * count]
            assert len({*once.tolist()}) == count
    small = chunks[chunks >= large]
    assert len(small) > 5 * tiny
    assert small[:tiny].tolist() != small[tiny : 2 * tiny].tolist()


@pytest.mark.parametrize("kind", MEMORY)
def test_resuming_at_any_step_gives_the_same_continuation(split, kind):
    mixture, batch = mixture_of(split, (2, 3), (7, 1000)), 12
    whole = take(split, "map", 40, batch, 3, mixture=mixture)
    for step in (0, 1, 13, 39):
        rest = take(split, kind, 40 - step, batch, 3, cursor=whole[step].cursor, mixture=mixture)
        for one, other in zip(whole[step:], rest, strict=True):
            assert one.chunks.tolist() == other.chunks.tolist()
            assert torch.equal(one.audio, other.audio)


def test_a_set_alone_goes_on_in_its_own_order_when_another_joins(split):
    large, tiny = split.sets
    alone = MixedSchedule((large.chunks,), (0,), mixture_of(split, (1, 0)), 8, 5, order=SMALL)
    first = np.concatenate([in_order(step) for step in islice(alone.steps(Cursor()), 40)])
    later = Mixture((MixedSet(large.fingerprint, 0, 1, 160), MixedSet(tiny.fingerprint, 1, 1)))
    sets = [(one.fingerprint, one.chunks) for one in split.sets]
    both = MixedSchedule.of(later, sets, 8, 5, order=SMALL)
    second = np.concatenate([in_order(step) for step in islice(both.steps(Cursor()), 40)])
    assert second[second < large.chunks].tolist() == first[160:].tolist()


def test_the_mixture_stays_what_it_was():
    """A run resumed under a later version must see the same data."""
    sets = MixedSet("a", 0, 7, 40000), MixedSet("b", 1, 3), MixedSet("c", 2, 0, 5)
    schedule = MixedSchedule.of(Mixture(sets), [("a", 40001), ("b", 100)], 16, 3)
    chunks = np.concatenate([in_order(step) for step in islice(schedule.steps(Cursor(0, 5)), 200)])
    assert chunks[:8].tolist() == [40006, 29215, 9217, 40074, 15739, 8854, 40078, 27531]
    content = chunks.astype("<i8").tobytes()
    assert hashlib.sha256(content).hexdigest() == "81d533e5ba54b9118405796391390af974b1af94a75cc2917415575e02d27db8"


def test_a_mixture_of_other_sets_is_refused(split):
    with pytest.raises(ValueError, match="other data sets"):
        BatchStream(split, 8, 0, mixture=Mixture((MixedSet("other", 0, 1),)))


@given(st.integers(1, 9), st.lists(st.integers(0, 8), min_size=1, max_size=60))
def test_every_row_has_one_rank(world, classes):
    classes = np.array(classes) % world
    shares = [share_of_rank(classes, rank, world, len(classes)) for rank in range(world)]
    assert sorted(np.concatenate([rows for rows, _ in shares]).tolist()) == [*range(len(classes))]
    for rank, (rows, own) in enumerate(shares):
        assert len(rows) == len(range(rank, len(classes), world))
        assert (own == (classes[rows] == rank)).all()
        assert (np.diff(rows) > 0).all()
    # No rank takes a row of others while one of its own class goes to another.
    for rank, (_, own) in enumerate(shares):
        if not own.all():
            assert sum(classes == rank) == own.sum()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 9), st.integers(0, 2000)), min_size=1, max_size=4),
    st.integers(1, 8),
    st.integers(8, 40),
    st.integers(0, 500),
)
def test_any_world_takes_the_same_chunks_and_reads_its_own_blocks(sets, world, batch, begin):
    rows = [MixedSet(f"f{k}", k, part, first) for k, (_, part, first) in enumerate(sets)]
    names = [(f"f{k}", count) for k, (count, _, _) in enumerate(sets)]
    schedules = [MixedSchedule.of(Mixture(tuple(rows)), names, batch, 1, rank, world, SMALL) for rank in range(world)]
    alone = MixedSchedule.of(Mixture(tuple(rows)), names, batch, 1, order=SMALL)
    cursor = Cursor(0, begin)
    steps = [[*islice(schedule.steps(cursor), 4)] for schedule in schedules]
    for number, one in enumerate(islice(alone.steps(cursor), 4)):
        found = {}
        for rank in steps:
            found |= dict(zip(rank[number].rows.tolist(), rank[number].chunks.tolist(), strict=True))
        assert [found[row] for row in range(batch)] == in_order(one).tolist()
    for schedule, mine in zip(schedules, steps, strict=True):
        for one, (count, _, _) in enumerate(sets):
            needed = {
                (epoch, place // 4)
                for step in mine
                for epoch, place, own, which in zip(step.epochs, step.places, step.own, step.sets, strict=True)
                if own and which == one
            }
            most = 4 * (4 * batch // count + 2) * (count // 8 + 4)
            for epoch, window in islice(schedule.windows(one, cursor), most):
                if not needed:
                    break
                needed -= {(epoch, block) for block in window.blocks.tolist()}
            assert not needed


@pytest.mark.parametrize("kind", ["map", "rows"])
def test_damage_is_replaced_from_the_same_set(split, tmp_path, kind):
    large, tiny = split.sets
    shutil.copytree(tiny.where, tmp_path / "tiny")
    (shard,) = (tmp_path / "tiny").glob("train-*.tar")
    content = bytearray(shard.read_bytes())
    content[5 * RECORD + 4000] ^= 1
    shard.write_bytes(content)
    damaged = Split.open(f"{large.where} + {tmp_path / 'tiny'}", "train")
    mixture, chunk = mixture_of(damaged, (1, 1)), large.chunks + 5
    with BatchStream(damaged, 16, 0, memory=MEMORY[kind], order=SMALL, mixture=mixture, damage_limit=1) as stream:
        taken = np.concatenate([batch.chunks for batch in islice(stream, 4)])
        found = stream.damage()
    assert chunk not in taken
    assert [one.chunk for one in found] == [chunk]
    assert large.chunks <= found[0].replacement < len(damaged)
    assert found[0].shard == f"{tmp_path / 'tiny'}/{shard.name}"


def test_sets_behind_a_url_and_copied_to_scratch_are_the_same(split, tmp_path):
    large, tiny = split.sets
    chunks = np.arange(len(split))
    with RangeServer(Path(tiny.where)) as far:
        closing_ones = [
            Split.open(f"{large.where} + {far.url}", "train"),
            Split.open(f"{large.where} + {far.url}", "train", scratch=tmp_path / "scratch"),
        ]
        for one in closing_ones:
            with closing(one):
                assert one.mapped is None
                assert one.fingerprint == split.fingerprint
                assert one.read(chunks).equal(split.read(chunks))
                mixed = take(one, "rows", 12, 16, 5, mixture=mixture_of(one, (1, 1)))
    expected = take(split, "map", 12, 16, 5, mixture=mixture_of(split, (1, 1)))
    assert [batch.chunks.tolist() for batch in mixed] == [batch.chunks.tolist() for batch in expected]
    assert len([*(tmp_path / "scratch").glob("*.records")]) == 2


def test_a_batch_larger_than_a_set_takes_it_several_times(split):
    mixture = mixture_of(split, (1, 9))
    batches = take(split, "arena", 3, 64, 0, mixture=mixture)
    for batch in batches:
        assert torch.equal(batch.audio, split.read(batch.chunks))
