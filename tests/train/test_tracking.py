"""W&B's own files, read back with W&B's own reader, and metrics.jsonl."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import STEPS, flags, points, start, train
from test_run import wait_for_step

from train import tracking
from train.config import DataConfig, TrackingConfig, VAERun

SECRET = "local-0123456789abcdef0123456789abcdef01234567"


def records(folder: Path) -> list[dict]:
    """The records of one offline run folder."""
    (file,) = folder.glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    printed = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def history(rows: list[dict]) -> list[dict]:
    """The points that were logged."""
    return [row["history"]["item"] for row in rows if row["type"] == "history"]


def test_attempts_are_one_offline_run_and_no_secret_is_written(data_dir, tmp_path):
    run = tmp_path / "vae"
    words = flags("vae", data_dir, run, "--tracking.wandb", "offline")
    process = start(words, WANDB_API_KEY=SECRET)
    wait_for_step(run, 4, process)
    (run / "STOP").touch()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 85, err
    train(words, WANDB_API_KEY=SECRET)
    folders = sorted((run / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    run_id = json.loads((run / "run.json").read_text())["run_id"]
    logged = []
    for folder in folders:
        rows = records(folder)
        (about,) = (row["run"] for row in rows if row["type"] == "run")
        assert about["run_id"] == run_id
        logged += history(rows)
    # Each attempt logs its own steps: together all of them, none twice, as in metrics.jsonl.
    steps = list(range(STEPS + 1))
    assert [row["step"] for row in points(run)] == steps
    assert [item["global_step"] for item in logged if "loss/total" in item] == steps[1:]
    assert [item["global_step"] for item in logged if "valid/si_sdr" in item] == [0, 4, 8]
    assert {item["attempt"] for item in logged if "attempt" in item} == {1, 2}
    assert any("valid/reference_then_reconstruction.path" in item for item in logged)
    assert list((run / "wandb").rglob("*.wav"))
    assert list((run / "wandb").rglob("*.png"))
    for file in run.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_a_crash_leaves_each_point_once_in_wandb(data_dir, tmp_path):
    """Killed after steps that no checkpoint holds: they are made again, and are not there twice."""
    run = tmp_path / "vae"
    words = flags("vae", data_dir, run, "--tracking.wandb", "offline", "--checkpoint.every", "3", "--optim.steps", "40")
    process = start(words, session=True)
    end = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or points(run)[-1]["step"] < 11:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    reached = points(run)[-1]["step"]
    train(words)
    assert [row["step"] for row in points(run)] == [*range(41)]
    folders = sorted((run / "wandb").glob("offline-run-*"))
    logged = [item["global_step"] for folder in folders for item in history(records(folder)) if "loss/total" in item]
    assert logged == [*range(1, 41)]
    assert len(folders) == 2 or not reached

    # An end by a crash that nobody resumed: what is missing from the files is added before the upload.
    lost = folders[-1]
    shutil.rmtree(lost)
    assert "points added" in train(["sync", str(run), "--prepare"])
    parts = sorted((run / "wandb").glob("offline-run-*"))
    logged = [item["global_step"] for part in parts for item in history(records(part)) if "loss/total" in item]
    assert logged == [*range(1, 41)]
    assert " 0 points added" in train(["sync", str(run), "--prepare"])
    assert "API key" in train(["sync", str(run)], code=1)
    told = train(["sync", str(run)], code=1, WANDB_API_KEY=SECRET, WANDB_BASE_URL="http://127.0.0.1:9")
    assert "not uploaded" in told
    assert SECRET not in told


def test_wandb_failing_does_not_stop_training(data_dir, tmp_path):
    """Online, with a key and no network: W&B gives up, training does not."""
    run = tmp_path / "vae"
    words = flags("vae", data_dir, run, "--tracking.wandb", "online")
    said = train(words, WANDB_API_KEY=SECRET, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_INIT_TIMEOUT="5")
    assert "W&B is off from here on" in said
    assert "finished at step" in said
    assert [row["step"] for row in points(run)] == list(range(STEPS + 1))


def test_a_part_is_read_once_until_it_grows(tmp_path, monkeypatch):
    """A run of a hundred attempts has a hundred parts, and each takes most of a second to read."""
    read = []

    def steps_of(file):
        read.append(file.parent.name)
        return [file.stat().st_size]

    def write(name, size):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "run-x.wandb").write_bytes(b"." * size)

    monkeypatch.setattr(tracking, "steps_of_part", steps_of)
    assert tracking.offline_steps(tmp_path) == set()
    write("offline-run-1", 10)
    write("offline-run-2", 20)
    assert tracking.offline_steps(tmp_path) == {10, 20}
    assert tracking.offline_steps(tmp_path) == {10, 20}
    assert read == ["offline-run-1", "offline-run-2"]
    write("offline-run-2", 21)
    assert tracking.offline_steps(tmp_path) == {10, 21}
    assert read == ["offline-run-1", "offline-run-2", "offline-run-2"]
    shutil.rmtree(tmp_path / "offline-run-1")
    (tmp_path / tracking.STEPS_FILE).write_text("{cut sh")
    assert tracking.offline_steps(tmp_path) == {21}


def test_points_are_forgotten_with_lines_that_were_cut_short(tmp_path):
    file = tmp_path / "metrics.jsonl"
    assert tracking.forget_after(file, 3) == []
    rows = [{"step": step} for step in range(6)]
    text = [json.dumps(row) for row in rows]
    for cut in ("", text[4][:5]):
        for end in ("", "\n", text[5][:4]):
            file.write_text("\n".join(filter(None, [*text[:4], cut, text[4]])) + "\n" + end)
            assert tracking.forget_after(file, 4) == rows[:5]
            assert file.read_text().splitlines() == text[:5]
    assert tracking.forget_after(file, 2) == rows[:3]
    assert tracking.forget_after(file, 0) == []
    assert file.read_text() == ""


@pytest.mark.parametrize(("mode", "sent"), [("offline", [2, 4, 5]), ("online", [4, 5])])
def test_what_wandb_lacks_is_sent_again(mode, sent, tmp_path, monkeypatch):
    """Offline parts may have gaps; a server tells the last step it has."""
    logged = []
    part = SimpleNamespace(summary={"global_step": 3}, log=lambda point: logged.append(point["global_step"]))
    monkeypatch.setattr(tracking, "start_wandb", lambda *_: part)
    monkeypatch.setattr(tracking, "offline_steps", lambda folder: {0, 1, 3})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in range(6)))
    config = VAERun(DataConfig("data"), tmp_path, tracking=TrackingConfig(wandb=mode))
    run = SimpleNamespace(path=tmp_path, attempt=2)
    tracker = tracking.Tracker(run, config.tracking, config, step=4)
    tracker.log(5, {"loss/total": 1.0})
    assert logged == sent
