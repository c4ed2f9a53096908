"""Damaged lines in a run's files: each flipped bit is told or harmless, and no damaged line is used."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest

from tests.train.conftest import points
from train.cli.which_samples import batch_of_step
from train.config import DataConfig, TrackingConfig, VAERun
from train.runs import requeue
from train.runs.lines import read_events, read_points, seconds_of_a_save
from train.runs.run_folder import RunDir
from train.runs.sealed_lines import append_sealed, damaged_lines, read_sealed, with_checksum
from train.runs.status import status
from train.tracking.tracker import Tracker, forget_after

ROW = {"step": 10, "attempt": 1, "time": 1700000000.125, "loss/total": 0.1, "perf": float("nan"), "name": "\ud800ä"}


@pytest.fixture
def run(straight, tmp_path):
    """A copy of a finished run."""
    shutil.copytree(straight("vae"), tmp_path / "run")
    return tmp_path / "run"


def replace(file, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_every_flipped_bit_is_told_or_harmless(tmp_path):
    file = tmp_path / "lines"
    append_sealed(file, ROW)
    whole = file.read_bytes()
    wanted = repr(read_sealed(file))
    assert wanted == repr([ROW])
    for place in range(len(whole) - 1):  # without the end of the line: that is a line cut short
        for bit in range(8):
            spoiled = bytearray(whole)
            spoiled[place] ^= 1 << bit
            file.write_bytes(spoiled)
            rows = read_sealed(file)
            if damaged_lines(file):
                assert not rows
            else:  # white space, or the name of the checksum
                assert repr([{key: row[key] for key in ROW} for row in rows]) == wanted


def test_lines_of_older_versions_and_lines_cut_short(tmp_path):
    file = tmp_path / "lines"
    assert (read_sealed(file), damaged_lines(file)) == ([], 0)
    file.write_text('{"step": 1}\n\n{"st')
    assert (read_sealed(file), damaged_lines(file)) == ([{"step": 1}], 0)
    append_sealed(file, {"step": 2})
    assert (read_sealed(file), damaged_lines(file)) == ([{"step": 1}, {"step": 2}], 1)


def test_status_tells_of_damage_once_and_uses_none_of_it(run, capsys):
    told = SimpleNamespace(run_dir=run, json=False)
    assert status(told) == 0
    assert "damaged" not in capsys.readouterr().out
    last = points(run)[-1]["loss/total"]
    replace(run / "metrics.jsonl", f'"loss/total": {last}', '"loss/total": 9.0')
    replace(run / "metrics.jsonl", '{"step": 2,', '{"step: 2,')
    replace(run / "attempts.jsonl", '"step": 8', '"step": 7')
    looked = run / "preflight.json"
    looked.write_text(json.dumps(with_checksum({"time": 1.0, "bytes": 9, "save_s": 0.25, "job_s": None})) + "\n")
    assert seconds_of_a_save(looked) == 0.25
    replace(looked, "0.25", "0.75")
    assert seconds_of_a_save(looked) == 0.0
    assert status(told) == 0
    out = capsys.readouterr().out
    assert "warning: preflight.json: 1 line is damaged and left out" in out
    assert "warning: attempts.jsonl: 1 line is damaged and left out" in out
    assert "warning: metrics.jsonl: 2 lines are damaged and left out" in out
    assert [row["step"] for row in read_points(run / "metrics.jsonl")] == [0, 1, *range(3, 8)]
    assert [event["event"] for event in read_events(run / "attempts.jsonl")] == ["started"]


def test_a_damaged_start_keeps_its_number(run, data_dir, capsys):
    with open(run / "attempts.jsonl", "a") as file:
        file.write('{"attempt": 2, "event": "ended", "step": 8}\n')
    assert RunDir.open(run).attempt == 2
    before = requeue.read_job_exit(run, None, code=1)
    replace(run / "attempts.jsonl", '"batch": 6', '"batch": 5')
    job = requeue.read_job_exit(run, None, code=1)
    assert job.attempts == before.attempts == 1, "as the batch script counts"
    assert RunDir.open(run).attempt == 2
    with pytest.raises(Exception, match="no attempt reached step 3"):
        batch_of_step(RunDir.open(run), None, 3)
    assert "attempts.jsonl: 1 line is damaged; the step may have had other chunks" in capsys.readouterr().err


def test_a_resumed_run_removes_damaged_points_with_a_warning(tmp_path, capsys):
    file = tmp_path / "metrics.jsonl"
    for step in range(4):
        append_sealed(file, {"step": step, "loss": 0.5})
    before = file.read_bytes().splitlines()
    replace(file, '{"step": 1, "loss": 0.5', '{"step": 1, "loss": 0.7')
    forget_after(file, 2)
    assert file.read_bytes().splitlines() == [before[0], before[2]]
    assert "1 damaged line was removed" in capsys.readouterr().err
    forget_after(file, 2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("cut_fails", [False, True])
def test_a_failed_fsync_leaves_each_point_once(cut_fails, tmp_path, monkeypatch):
    config = VAERun(DataConfig("d"), tmp_path / "run", tracking=TrackingConfig(wandb="disabled"))
    tracker = Tracker(RunDir.create_or_resume(config, "vae", "f"), config.tracking, 0, "disabled")
    tracker.log(0, {"a": 0.5})

    def broken(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        if cut_fails:
            patched.setattr(os, "ftruncate", broken)
        tracker.log(1, {"a": 1.5})
        tracker.log(2, {"a": 2.5})
    tracker.log(3, {"a": 3.5})
    tracker.close(failed=False)
    assert [row["step"] for row in map(json.loads, tracker.file.read_text().splitlines())] == [0, 1, 2, 3]
    assert damaged_lines(tracker.file) == 0
