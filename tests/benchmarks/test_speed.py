import json
import math

import numpy as np
import pytest
import soundfile

from benchmarks.speed.command import main, save
from benchmarks.speed.mixing.layouts import Layout, recordings, scatter, scattered, sequential
from benchmarks.speed.mixing.shuffling import METHODS, mixing
from benchmarks.speed.readers.ours import Unshuffled
from benchmarks.speed.support.data import SHAPE, make_shards
from benchmarks.speed.support.rows import Row, compare, skipped
from benchmarks.speed.support.trial import READERS, Trial, Unavailable, in_new_process
from shards import BatchStream, Manifest, Split
from shards.building.build import build
from shards.verify import verify


@pytest.mark.parametrize("part", ["reading", "disk", "busy", "resume", "shuffling", "elastic", "generating"])
def test_each_part_runs_and_leaves_sound_rows(part, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([part, "--quick"]) == 0
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["bench.json"]  # the data are gone
    content = json.loads((tmp_path / "build" / "bench.json").read_text())
    assert content["machine"]["cores"] >= 1
    assert content["machine"]["libraries"]["torch"]
    rows = content["rows"]
    assert rows
    assert len({row["name"] for row in rows}) == len(rows)
    table = " ".join(capsys.readouterr().out.split())
    for row in rows:
        assert row["part"] == part
        assert row["command"] == f"python -m benchmarks speed {part} --quick"
        if row["ratio"] is None:
            assert "is not installed" in row["note"]
            assert "is not installed" in table
            assert row["ok"] is None
        else:
            # On a slow machine a thread that has to receive 10,000 chunks a second may find no time for a step.
            assert row["ours"] > 0 or part == "busy"
            assert row["other"] > 0
            assert row["ok"] == (None if row["target"] is None else row["ratio"] >= row["target"])
    assert any(row["ratio"] for row in rows)


def test_a_part_replaces_its_own_rows_only(tmp_path):
    out = tmp_path / "bench.json"
    save(out, "shuffling", [Row("a", 1.0, 2.0, 2.0, "pairs"), Row("b", 1.0, 2.0, 2.0, "pairs")])
    save(out, "reading", [compare("c", 3.0, 1.5, "chunks/s", 2.0)])
    save(out, "shuffling", [skipped("a", "pairs", "it is not installed")])
    rows = json.loads(out.read_text())["rows"]
    assert [(row["part"], row["name"], row["ratio"], row["ok"]) for row in rows] == [
        ("reading", "c", 2.0, True),
        ("shuffling", "a", None, None),
    ]


def test_an_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["redaing"])
    assert "redaing" in capsys.readouterr().err


def test_a_ratio_below_its_target_is_missed():
    assert compare("a", 1.0, 2.0, "", 0.5).ok is True
    assert compare("a", 0.99, 2.0, "", 0.5).ok is False
    assert compare("a", 1.0, 2.0, "").ok is None


def test_synthetic_shards_are_sound(tmp_path, capsys):
    folder = make_shards(tmp_path / "set", 40)
    verify(folder)
    split = Split.open(folder, "train")
    assert len(split) == 40
    assert len(np.unique(split.read(np.arange(40)).numpy(), axis=0)) == 40
    assert len(set(split.names(np.arange(40)))) == 40
    split.close()


def test_what_is_not_installed_is_said_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, "ours", "a_library_that_nobody_has")
    with pytest.raises(Unavailable, match="a_library_that_nobody_has"), Trial("ours", tmp_path).batches():
        pass


def _fail():
    raise ValueError("no such luck")


def _leave():
    raise SystemExit(3)


def test_a_failure_in_another_process_is_told():
    assert in_new_process(math.sqrt, 4.0) == 2.0
    with pytest.raises(RuntimeError, match="no such luck"):
        in_new_process(_fail)
    with pytest.raises(RuntimeError, match="code 3"):
        in_new_process(_leave)


def test_the_simulated_layout_is_the_builders(tmp_path):
    rate, samples, hop, per_shard = 8000, 800, 400, 20
    (tmp_path / "audio").mkdir()
    rng = np.random.default_rng(0)
    for k, length in enumerate((9000, 400, 31234, 12000)):
        soundfile.write(tmp_path / "audio" / f"{k}.wav", rng.uniform(-0.5, 0.5, length), rate)
    build(tmp_path / "audio", tmp_path / "set", rate, samples, hop, valid=0, chunks_per_shard=per_shard, workers=1)
    split = Split.open(tmp_path / "set", "train")
    lengths = {row: round(source.duration_s * rate) for row, source in enumerate(split.manifest.sources)}
    shards = scatter(0, lengths, samples, hop, per_shard)
    assert [len(rows) for rows, _ in shards] == [shard.chunks for shard in split.manifest.splits["train"]]
    source, start = split.keys()
    assert np.concatenate([rows for rows, _ in shards]).tolist() == source.tolist()
    assert np.concatenate([starts for _, starts in shards]).tolist() == start.tolist()
    split.close()


def test_both_layouts_hold_the_same_chunks():
    lengths = recordings(50_000, 240, 0.5)
    layouts = [sequential(lengths), scattered(lengths)]
    keys = [np.sort(layout.source * 2**40 + layout.start) for layout in layouts]
    assert np.array_equal(*keys)
    assert all(layout.shards.sum() == len(layout) for layout in layouts)


def test_pairs_and_neighbours_are_counted():
    hop = SHAPE.samples // 2
    layout = Layout(np.array([0, 0, 0, 1, 1, 2, 3, 4]), np.array([0, 1, 2, 0, 5, 0, 0, 0]) * hop, np.array([8]))
    found = mixing(layout, np.arange(8), batch=4)
    # First batch: three of recording 0, of which two pairs overlap; second: no pair at all.
    assert (found.pairs, found.neighbours) == (1.5, 1.0)
    found = mixing(layout, np.array([3, 4, 0, 2, 5, 6, 7, 1]), batch=4)
    assert (found.pairs, found.neighbours) == (1.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_orders_deliver_each_chunk_once(method):
    layout = scattered(recordings(70_000, 60, 0.5))
    try:
        order = METHODS[method](layout, 3)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    assert len(order) - len(layout) < 64  # mosaicml-streaming repeats some to share them out evenly
    assert np.array_equal(np.unique(order), np.arange(len(layout)))


def test_the_unshuffled_order_is_in_order(tmp_path):
    folder = make_shards(tmp_path / "set", 300)
    with BatchStream(Split.open(folder, "train"), 64, seed=0, order=Unshuffled) as stream:
        for k in range(4):
            assert next(stream).chunks.tolist() == list(range(64 * k, 64 * k + 64))
    assert Manifest.load(folder).chunks("train") == 300
