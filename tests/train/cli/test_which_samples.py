import json
import shutil
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile

from shards import Manifest, Split
from tests.train.conftest import STEPS, flags, points, start_ranks, train
from train.cli.verify_resume import consumed

sys.path.append(str(Path(__file__).parents[2] / "shards"))
from range_server import RangeServer


@pytest.fixture(scope="module")
def alone(data_dir, tmp_path_factory):
    run = tmp_path_factory.mktemp("alone") / "run"
    train(flags("vae", data_dir, run, "--tracking.samples", "true"))
    return run


def which(run, step, *more):
    out = train(["which-samples", str(run), "--step", str(step), "--json", *more])
    return json.loads(out[out.index("{") : out.rindex("}") + 1])


def test_one_process_consumes_what_is_asked_for_later(alone, data_dir, tmp_path):
    steps = consumed(alone)
    assert [*steps] == [*range(1, STEPS + 1)]
    assert all(len(chunks) == 6 for chunks in steps.values())
    output = which(alone, 5, "--wav", str(tmp_path / "wav"))
    assert [row["chunk"] for row in output["chunks"]] == steps[5]
    files = sorted((tmp_path / "wav").iterdir())
    assert [file.name for file in files] == [f"{row['row']:05d}-{row['name']}" for row in output["chunks"]]
    recordings = [source.path for source in Manifest.load(data_dir).sources]
    for file, row in zip(files, output["chunks"], strict=True):
        audio, rate = soundfile.read(file, dtype="int16")
        assert (len(audio), rate) == (2205, 22050)
        assert row["recording"] in recordings
    out = train(["which-samples", str(alone), "--step", "1"])
    assert "tune-" in out


def test_which_samples_says_what_is_wrong(alone, tmp_path):
    assert "1 to 8" in train(["which-samples", str(alone), "--step", "9"], code=1)
    assert "run.json" in train(["which-samples", str(tmp_path), "--step", "1"], code=1)
    assert "--data DIR" in train(["which-samples", str(alone), "--step", "1", "--data", str(tmp_path)], code=1)


def test_four_processes_consume_the_same(alone, data_dir, tmp_path):
    train(flags("vae", data_dir, tmp_path / "run", "--tracking.samples", "true"), processes=4)
    assert consumed(tmp_path / "run") == consumed(alone)


def test_killed_and_resumed_on_others_consumes_the_same(alone, data_dir, tmp_path):
    run = tmp_path / "run"
    more = ["--tracking.samples", "true", "--checkpoint.every", "1"]
    ranks = start_ranks(flags("vae", data_dir, run, *more), 2)
    end = time.monotonic() + 1000
    while not (run / "checkpoints/step-00000003").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    for rank in ranks:
        rank.kill()
    for rank in ranks:
        rank.wait(1000)
    train(flags("vae", data_dir, run, *more, "--data.microbatch", "1"), processes=3)
    assert consumed(run) == consumed(alone)
    assert [row["chunk"] for row in which(run, 6)["chunks"]] == consumed(alone)[6]


def test_a_damaged_chunk_is_replaced_told_and_counted(alone, data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "set")
    manifest = Manifest.load(tmp_path / "set")
    shard = manifest.splits["train"][0]
    chunk = consumed(alone)[3][2]
    with open(tmp_path / "set" / shard.file, "r+b") as file:
        file.seek(chunk * manifest.chunk_format.stride + 1000)
        file.write(np.random.default_rng(0).bytes(10))
    run = tmp_path / "run"
    output = train(flags("vae", tmp_path / "set", run, "--tracking.samples", "true"))
    assert f"{shard.file}: member {chunk} is damaged" in output
    noted = [json.loads(line) for line in (run / "damage.jsonl").read_text().splitlines()]
    assert [row["chunk"] for row in noted] == [chunk]
    assert points(run)[-1]["data/damaged_chunks"] == 1
    steps, before = consumed(run), consumed(alone)
    assert steps[3][2] != chunk
    assert {step: chunks for step, chunks in steps.items() if step != 3} == {s: c for s, c in before.items() if s != 3}
    output = train(flags("vae", tmp_path / "set", tmp_path / "strict", "--data.damage_limit", "0"), code=1)
    assert output.strip().splitlines()[-1].startswith("error: shard ")
    assert f"{shard.file}: member {chunk} is damaged" in output


def test_data_behind_a_url_is_trained_on_like_a_folder(alone, data_dir, tmp_path):
    run = tmp_path / "run"
    with RangeServer(data_dir) as server:
        url = server.url.replace("//", "//ada:hunter2@")
        more = ["--tracking.samples", "true", "--data.memory_gb", "1e-6", "--data.scratch", str(tmp_path / "scratch")]
        output = train(flags("vae", url, run, *more), processes=2)
        assert consumed(run) == consumed(alone)
        assert {request.path for request in server.requests} > {"/dataset.json"}
        assert [row["chunk"] for row in which(run, 4, "--data", url)["chunks"]] == consumed(alone)[4]
    written = [file.read_text() for file in run.rglob("*.json*")]
    assert "hunter2" not in output + "".join(written)
    assert json.loads((run / "run.json").read_text())["config"]["data.path"] == server.url
    output = train(flags("vae", "http://127.0.0.1:9/data", tmp_path / "none"), code=1)
    assert output.strip().splitlines()[-1].startswith("error: http://127.0.0.1:9/data")


def test_the_next_attempt_on_a_node_reads_from_the_copy(alone, data_dir, tmp_path):
    room = shutil.disk_usage(tmp_path)
    if room.free < 0.07 * room.total:
        pytest.skip("so little of the disk is free that nothing is copied")
    scratch = tmp_path / "scratch"
    with RangeServer(data_dir) as server:
        for name in ("train", "valid"):
            with closing(Split.open(server.url, name, scratch=scratch)) as split:
                end = time.monotonic() + 1000
                while split.records.present < split.records.blocks:
                    assert time.monotonic() < end
                    time.sleep(0.05)
        before = len(server.requests)
        more = ["--tracking.samples", "true", "--data.memory_gb", "1e-6", "--data.scratch", str(scratch)]
        train(flags("vae", server.url, tmp_path / "run", *more))
        # A request of one byte asks for a shard's size.
        large = [request for request in server.requests[before:] if (request.end or 0) - (request.begin or 0) > 1]
        assert [request.path for request in large if request.path != "/dataset.json"] == []
    assert consumed(tmp_path / "run") == consumed(alone)
