"""Faults in a short real run, the plan of faults, and that each check can fail."""

import errno
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.faults import checks, corruption
from benchmarks.faults.command import TARGETS, main, run_under_faults
from benchmarks.faults.disk import small_disk
from benchmarks.faults.encodings import Encoding, EncodingAttempt, differences, verify
from benchmarks.faults.observation import last_point, newest_intact, reached, sizes
from benchmarks.faults.plan import DAMAGING, ENCODING, EVERY, GRACEFUL, TRAINING, Fault, most_lost, plan, steps_needed
from benchmarks.faults.processes import FaultError, Processes
from benchmarks.faults.report import rows_of, verdict
from benchmarks.faults.runner import Outcome
from benchmarks.faults.trainings import BATCH, training_chunks
from shards.files import read_lines
from shards.mixing.places import parse_places
from train.encoding.sequence_file import DIGITS, write_sequence
from train.runs import checkpoint
from train.runs.record import checksum

SHORT = ["kill during a save", "flip a bit", "disk full", "kill W&B"]
HIT = Fault("kill rank 1", "step", 5, 0.5, 0.5)


@pytest.fixture(scope="module")
def faulted(tmp_path_factory) -> tuple[Path, dict]:
    """A run into which each fault of SHORT was injected once."""
    folder = tmp_path_factory.mktemp("faults") / "short"
    return folder, run_under_faults(folder, len(SHORT), 1, SHORT)


@pytest.fixture
def tampered(faulted, tmp_path) -> Path:
    """A copy of its folder, to be damaged."""
    shutil.copytree(faulted[0] / "run", tmp_path / "run", symlinks=True)
    return tmp_path / "run"


@pytest.mark.slow(area="faults")
def test_a_run_under_faults_loses_nothing(faulted):
    _, result = faulted
    assert result["checks"] == {name: [] for name in result["checks"]}
    assert len(result["checks"]) == 6
    assert result["passed"]
    injected = {row["fault"] for row in result["rows"]}
    assert injected | result["skipped"].keys() == set(SHORT)
    assert all(fault["reached"] > fault["start"] for fault in result["faults"])
    assert all(row["recovery_mean_s"] > 0 for row in result["rows"])
    json.dumps(result)


@pytest.mark.slow(area="faults")
@pytest.mark.parametrize("file", ["training.safetensors", "optimizer.safetensors", "discriminator.safetensors"])
def test_other_weights_are_noticed(faulted, tampered, file):
    reference = faulted[0] / "reference"
    assert checks.weights(tampered, reference) == []
    last = tampered / "checkpoints" / f"step-{newest_intact(tampered):08d}"
    content = bytearray((last / file).read_bytes())
    content[-1] ^= 1
    (last / file).write_bytes(content)
    (problem,) = checks.weights(tampered, reference)
    assert problem.startswith("the last intact checkpoint is"), "it is damaged now"
    manifest = json.loads((last / "manifest.json").read_text())
    manifest["files"][file] = checkpoint._describe(last / file)
    del manifest["sha256"]
    (last / "manifest.json").write_text(json.dumps(manifest | {"sha256": checksum(manifest)}))
    (problem,) = checks.weights(tampered, reference)
    assert file in problem
    assert "differs" in problem


@pytest.mark.slow(area="faults")
def test_another_exported_model_is_noticed(faulted, tampered):
    (tampered / "model" / "model.safetensors").write_bytes(b"")
    assert checks.weights(tampered, faulted[0] / "reference") == ["model/model.safetensors differs"]


@pytest.mark.slow(area="faults")
def test_wrong_samples_are_noticed(faulted, tampered):
    chunks, steps = training_chunks(faulted[0] / "data"), faulted[1]["steps"]
    assert checks.samples(tampered, steps, chunks, BATCH) == []
    file = tampered / "samples" / "rank-00001.jsonl"
    rows = read_lines(file)  # a full disk may have cut some short

    def problems(changed: list[dict]) -> list[str]:
        file.write_text("".join(json.dumps(row) + "\n" for row in changed))
        return checks.samples(tampered, steps, chunks, BATCH)

    last = rows[-1]
    assert "rows are missing" in problems(rows[:-1])[0]
    other = {**last, "chunks": [*last["chunks"][:-1], rows[-2]["chunks"][0]]}
    assert "repeated with other chunks" in problems([*rows, other])[0]
    early = {row["step"]: row for row in rows}
    early[1] = {**early[1], "chunks": [early[2]["chunks"][0], *early[1]["chunks"][1:]]}
    assert "more than once" in problems([*early.values()])[0]
    assert "two ranks took row" in problems([{**row, "rows": [row - 1 for row in row["rows"]]} for row in rows])[0]
    assert "the steps are not" in problems([*rows, {**last, "step": steps + 1}])[0]


def test_a_chunk_that_is_left_out_is_noticed(tmp_path):
    (tmp_path / "samples").mkdir()
    for rank in (0, 1):
        lines = [{"step": step, "rows": [rank], "chunks": [(2 * step + rank) % 4]} for step in (1, 2, 3)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "samples" / f"rank-{rank:05d}.jsonl").write_text(text)
    assert checks.samples(tmp_path, 3, [4], 2) == []
    assert checks.samples(tmp_path, 3, [5], 2) == [], "the rest of an epoch, less than a step, is dropped"
    assert "more than once" in checks.samples(tmp_path, 3, [6], 2)[0]
    assert "unknown" in checks.samples(tmp_path, 3, [3], 2)[0]


@pytest.mark.slow(area="faults")
def test_wrong_points_are_noticed(faulted, tampered):
    reference, steps = faulted[0] / "reference", faulted[1]["steps"]
    file = tampered / "metrics.jsonl"
    text = file.read_text()
    lines = text.splitlines(keepends=True)
    assert checks.points(tampered, reference, steps) == []
    for damaged in (lines[:7] + lines[8:], [*lines[:8], *lines[7:]], [lines[1], lines[0], *lines[2:]]):
        file.write_text("".join(damaged))
        assert "in order, each once" in checks.points(tampered, reference, steps)[-1]
    file.write_text(text + lines[0][:9])
    assert checks.points(tampered, reference, steps) == ["1 lines are incomplete"]
    row = json.loads(lines[5])
    row["loss/total"] *= 1 + 1e-9
    file.write_text("".join([*lines[:5], json.dumps(row) + "\n", *lines[6:]]))
    assert checks.points(tampered, reference, steps) == ["step 5: loss/total differ"]


@pytest.mark.slow(area="faults")
def test_wrong_wandb_parts_are_noticed(faulted, tampered):
    steps = faulted[1]["steps"]
    part = max((tampered / "wandb").glob("offline-run-*"))
    again = part.with_name("offline-run-99999999_999999-x")
    shutil.copytree(part, again)
    (problem,) = checks.wandb_points(tampered, steps)
    assert "more than once" in problem
    shutil.rmtree(again)
    shutil.rmtree(part)
    (problem,) = checks.wandb_points(tampered, steps)
    assert "missing" in problem


@pytest.mark.slow(area="faults")
def test_missing_attempts_are_noticed(tampered):
    outcome = Outcome(replace(HIT, kind="STOP"), 2, 0, 0, 0, 0, 0.0, 0.0)
    assert checks.status_problems(tampered, []) == []
    assert "is missing" in checks.status_problems(tampered, [replace(outcome, attempt=99)])[0]
    events = read_lines(tampered / "attempts.jsonl")
    kept = [event for event in events if event["event"] != "ended" or event["reason"] != "finished"]
    (tampered / "attempts.jsonl").write_text("".join(json.dumps(event) + "\n" for event in kept))
    (tampered / "DONE").unlink()
    problems = checks.status_problems(tampered, [])
    assert any("the run is crashed" in problem for problem in problems)
    assert any("has no reason for its end" in problem for problem in problems)
    for record in (tampered / "run.json", *(tampered / "checkpoints").glob("*/run.json")):
        record.unlink()
    assert "status failed" in checks.status_problems(tampered, [])[0]


def test_steps_lost_beyond_the_bound_are_noticed():
    outcome = Outcome(HIT, 1, 20, 35, 30, 15, 0.0, 1.0)
    assert outcome.lost == 5
    assert checks.losses([outcome, replace(outcome, saved=20)]) == []
    assert len(checks.losses([replace(outcome, saved=19), replace(outcome, saved=36)])) == 2


@given(kills=st.integers(0, 60), seed=st.integers(0, 2**32))
def test_a_plan_is_a_function_of_its_seed(kills, seed):
    faults = plan(kills, seed)
    assert len(faults) == kills
    assert faults == plan(kills, seed)
    often = [sum(fault.kind == kind for fault in faults) for kind in TRAINING]
    assert max(often) - min(often) <= 1
    for fault in faults:
        assert 0 <= fault.fraction < 1
        assert 0 <= fault.where < 1
        assert fault.steps > 2 * EVERY or fault.kind not in DAMAGING, "there must be a checkpoint before that one"
        assert (fault.steps == 0) == (fault.moment == "start-up")
    assert steps_needed(faults) > sum(fault.steps for fault in faults)
    assert steps_needed(faults) % EVERY == 0


def test_another_seed_is_another_plan():
    assert plan(20, 1) != plan(20, 2)
    assert {fault.kind for fault in plan(4, 0, ["STOP", "TERM"])} == {"STOP", "TERM"}


@given(kills=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_a_plan_of_an_encoding_has_room_for_each_fault(kills, seed):
    faults = Encoding.plan(kills, seed, tuple(ENCODING))
    assert len(faults) == kills
    assert faults == Encoding.plan(kills, seed, tuple(ENCODING))
    for fault in faults:
        assert (fault.steps > 0) == (fault.moment == "step")
        assert fault.steps > 0 or fault.kind not in DAMAGING, "there must be a file to damage"


@pytest.mark.slow(area="faults")
def test_an_encoding_under_faults_has_the_same_bytes(tmp_path):
    kinds = ["flip a bit", "halt and kill", "kill during a save", "disk full"]
    result = run_under_faults(tmp_path / "short", len(kinds), 1, kinds, "encode")
    assert len(result["checks"]) == 3
    assert result["checks"] == {name: [] for name in result["checks"]}
    assert {row["fault"] for row in result["rows"]} | result["skipped"].keys() == set(kinds)
    reference, run = tmp_path / "short" / "reference", tmp_path / "short" / "run"
    assert differences(run, reference) == []
    shard = next(run.glob("*.tar"))
    with open(shard, "r+b") as file:
        file.seek(3000)
        file.write(b"damage")
    (run / "leftover").touch()
    (run / "dataset.json").rename(run / "gone")
    assert differences(run, reference) == [
        "run/gone is too much",
        "run/leftover is too much",
        "run/dataset.json is missing",
        f"run/{shard.name} differs",
    ]
    assert len(verify(run)) == 1


@pytest.mark.slow(area="faults")
def test_a_prior_under_faults_loses_nothing(tmp_path):
    kinds = ["kill rank 0"]
    result = run_under_faults(tmp_path / "short", len(kinds), 1, kinds, "prior")
    assert result["checks"] == {name: [] for name in result["checks"]}
    assert len(result["checks"]) == 6
    autoencoder = tmp_path / "short" / "run" / "model" / "autoencoder" / "model.safetensors"
    autoencoder.write_bytes(b"")
    (problem,) = checks.weights(tmp_path / "short" / "run", tmp_path / "short" / "reference")
    assert problem == "model/autoencoder/model.safetensors differs"


def test_what_an_encoding_keeps_is_seen_from_outside(tmp_path):
    target = Encoding(tmp_path, tmp_path / "run")
    target.total = 9
    folder = tmp_path / "run" / ".encode"
    folder.mkdir(parents=True)
    for number in (1, 2):
        write_sequence(folder / f"{number:08d}.latents", "k" * DIGITS, np.zeros((3, 2), np.int16))
    target.damageable()[0].write_bytes(b"torn")
    attempt = EncodingAttempt(target)
    assert attempt.kept == target.kept() == 1
    assert attempt.made() == 0
    assert attempt.first_step() is None
    began = time.time()
    write_sequence(folder / "00000001.latents", "k" * DIGITS, np.ones((3, 2), np.int16))
    assert attempt.made() == 1
    assert attempt.first_step() == pytest.approx(began, abs=1)
    assert attempt.end("out: 1 of 9 recordings were encoded before") == 2 == target.kept()
    with pytest.raises(FaultError, match="kept 2 recordings, but 1 intact"):
        attempt.end("out: 2 of 9 recordings were encoded before")
    hit = replace(HIT, where=0.0)
    assert target.ranks(hit) == 2, "that kind needs two processes"
    assert {target.ranks(replace(hit, kind="TERM", where=where / 64)) for where in range(8)} == {1, 2}
    assert not target.has_room(hit)
    target.total = 40
    assert target.has_room(hit)
    assert not attempt.is_saving(began)
    (folder / "spool").mkdir()
    assert attempt.is_saving(began - 1)
    assert not attempt.is_saving(began + 60), "that of an attempt before"
    (tmp_path / "run" / "dataset.json").touch()
    assert target.is_done()
    assert attempt.is_saving(began + 60)
    assert attempt.made() == 39


@given(kind=st.sampled_from([*TRAINING]), start=st.integers(0, 1000), made=st.integers(0, 100))
def test_what_may_be_lost_is_the_interval_and_what_is_in_writing(kind, start, made):
    allowed = most_lost(kind, start, start + made)
    if kind in GRACEFUL:
        assert allowed == 0
        return
    damaged = kind in DAMAGING or kind == "disk full"
    assert (1 + damaged) * EVERY <= allowed < (2 + damaged) * EVERY
    if not damaged:
        assert (start + made - allowed - start) % EVERY == 0, "there is a checkpoint of that step"


@given(where=st.floats(0, 1, exclude_max=True), fraction=st.floats(0, 1, exclude_max=True))
def test_damage_is_to_one_file(tmp_path_factory, where, fraction):
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (1, 2):
        (folder / f"step-{step:08d}").mkdir()
        for name in ("a", "b"):
            (folder / f"step-{step:08d}" / name).write_bytes(bytes(range(7)))
    files = sorted((folder / "step-00000002").iterdir())
    for act in (corruption.flip, corruption.cut):
        before = {path: path.read_bytes() for path in folder.rglob("?")}
        act(files, where, fraction)
        (changed,) = (path for path in before if path.read_bytes() != before[path])
        assert changed.parent.name == "step-00000002"


def test_a_full_disk_has_no_room_and_gets_it_back(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        if disk.why_not:
            pytest.skip(disk.why_not)
        disk.fill()
        with pytest.raises(OSError, match="No space") as caught:
            (disk.folder / "more").write_bytes(b".")
        assert caught.value.errno == errno.ENOSPC
        disk.free()
        (disk.folder / "more").write_bytes(b"." * 10**6)
    assert not list((tmp_path / "disk").iterdir()), "it is gone"


def test_a_disk_that_cannot_be_mounted_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with small_disk(tmp_path / "disk") as disk:
        assert disk.why_not
        (disk.folder / "file").touch()
    assert (tmp_path / "disk" / "file").exists()


def test_an_attempt_that_ends_by_itself_or_never_is_an_error(tmp_path):
    script = "print('error: out of luck')"
    processes = Processes([sys.executable, "-c", script], tmp_path / "log")
    with pytest.raises(FaultError, match="ended without a fault, waiting for luck: error: out of luck"):
        processes.wait_until(lambda: False, 60, "luck")
    script = "import os, time; os.fork() or os.setsid(); time.sleep(600)"
    processes = Processes([sys.executable, "-c", script], tmp_path / "log")
    while len(processes.alive()) < 2:
        time.sleep(0.01)
    with pytest.raises(FaultError, match="still running after"):
        processes.wait_for_end(0.2)
    assert processes.alive() == []
    processes = Processes([sys.executable, "-c", script], tmp_path / "log")
    while len(processes.alive()) < 2:
        time.sleep(0.01)
    processes.find_targets()
    processes.kill_all()
    assert processes.alive() == []


def test_a_launcher_whose_environment_is_not_yet_there_is_alive(tmp_path, monkeypatch):
    """Otherwise a command that has just been started counts as ended."""
    processes = Processes([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log")
    monkeypatch.setattr(psutil.Process, "environ", lambda process: {})
    try:
        assert [process.pid for process in processes.alive()] == [processes.launcher.pid]
    finally:
        processes.kill_all()
    assert processes.alive() == []


def test_how_far_a_run_is(tmp_path):
    assert last_point(tmp_path) is None
    assert newest_intact(tmp_path) == 0
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert last_point(tmp_path) == {"step": 2}
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "rank-00000.jsonl").write_text('{"step": 9}\n')
    noted = sizes(tmp_path)
    assert reached(tmp_path, noted) is None
    assert reached(tmp_path, {}) == 9


def test_the_report(capsys):
    outcomes = [Outcome(HIT, 1, 0, 15, 10, 15, 0.0, 1.0, 9.0), Outcome(HIT, 2, 10, 21, 10, 11, 0.0, 2.0)]
    (row,) = rows_of(outcomes, TRAINING)
    assert (row["times"], row["lost_mean"], row["lost_max"], row["in_a_save"]) == (2, 8, 11, 1)
    assert (row["end_max_s"], row["recovery_mean_s"]) == (2.0, 9.0)
    assert rows_of(outcomes, ENCODING)[0]["in_a_save"] is None
    assert verdict({"a": [], "b": ["c"]}) == ["ok   a", "FAIL b", "       c"]
    with pytest.raises(SystemExit):
        main(["--kinds", "kill rank 7"])
    assert "no kind of fault 'kill rank 7'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--target", "encode", "--kinds", "kill W&B"])
    assert "no kind of fault 'kill W&B': choose from kill rank 0" in capsys.readouterr().err
    assert [*TARGETS] == ["autoencoder", "mixture", "prior", "encode"]


def test_epochs_of_several_sets_are_told_apart():
    taken = [0, 4, 1, 5, 2, 4, 3, 5, 0, 4]  # four chunks of the first set; the second has two and begins again
    assert checks.epochs_of_sets(taken, [4, 2]) == []
    assert checks.epochs_of_sets([*taken[:4], 1], [4, 2]) == ["set 0, epoch 0: a chunk more than once"]
    assert checks.epochs_of_sets([4, 4], [4, 2]) == ["set 1, epoch 0: a chunk more than once"]
    assert checks.epochs_of_sets([6], [4, 2]) == ["a chunk is of no set"]


def test_the_mixture_is_of_two_sets_in_fixed_shares(tmp_path):
    target = TARGETS["mixture"](tmp_path, tmp_path / "run")
    data = target.make_data()
    large, small = training_chunks(data)
    assert large > 5 * small
    assert [place.settings for place in parse_places(data)] == ["rest", "0.3"]
