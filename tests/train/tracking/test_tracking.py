"""Points of a run in metrics.jsonl and in W&B's offline files: each step once."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from wandb_reader import SECRET, assert_nowhere, history, logged, parts, records

from tests.train.conftest import STEPS, flags, points, start, train, wait_for_step
from train.config import DataConfig, TrackingConfig, VAERun
from train.runs.record import Record
from train.runs.run_folder import RunDir
from train.tracking import tracker, wandb_run, wandb_sender, wandb_sync


def test_attempts_are_one_offline_run(data_dir, tmp_path):
    run = tmp_path / "vqvae"
    words = flags("vqvae", data_dir, run, "--tracking.wandb", "offline", "--tracking.audio_every", "4")
    train([*words, "--stop_at", "5"], code=85)
    train(words)
    assert len(parts(run)) == 2
    run_id = json.loads((run / "run.json").read_text())["run_id"]
    items = []
    for folder in parts(run):
        rows = records(folder)
        (about,) = (row["run"] for row in rows if row["type"] == "run")
        assert about["run_id"] == run_id
        items += history(rows)
    # Each attempt logs its own steps. Together they are complete and without duplicates, as in metrics.jsonl.
    steps = list(range(STEPS + 1))
    assert [row["step"] for row in points(run)] == steps
    assert [item["global_step"] for item in items if "loss/total" in item] == steps[1:]
    assert [item["global_step"] for item in items if "valid/si_sdr" in item] == [0, 4, 8]
    assert {item["attempt"] for item in items if "attempt" in item} == {1, 2}
    assert [i["global_step"] for i in items if "valid/reference_then_reconstruction.path" in i] == [0, 4, 8]
    # The codebooks start at step 2. A histogram counts every code of a codebook.
    used = [item for item in items if "codebook/use_1.values" in item]
    assert [item["global_step"] for item in used] == [4, 8]
    for item in used:
        assert len(item["codebook/use_1.bins"]) == len(item["codebook/use_1.values"]) + 1
        assert sum(item["codebook/use_1.values"]) == 16
        assert "codebook/use_by_rank.path" in item
    examples = [item for item in items if "valid/examples.path" in item]
    assert [item["global_step"] for item in examples] == [0, 4, 8]
    for item in examples:
        (file,) = (run / "wandb").rglob(Path(item["valid/examples.path"]).name)
        page = file.read_text()
        assert page.count("<tr>") == 1 + 4
        assert page.count("<audio") == page.count('src="data:audio/wav;base64,') == 2 * 4
        assert page.count('src="data:image/png;base64,') == 3 * 4
        assert "http:" not in page
        assert "https:" not in page
    assert list((run / "wandb").rglob("*.wav"))
    assert list((run / "wandb").rglob("*.png"))


@pytest.mark.slow(area="wandb")
def test_a_crash_leaves_each_point_once_in_wandb(data_dir, tmp_path):
    """Killed after steps that no checkpoint holds: the resumed run repeats them, and each step occurs once."""
    run = tmp_path / "vae"
    words = flags("vae", data_dir, run, "--tracking.wandb", "offline", "--checkpoint.every", "3", "--optim.steps", "40")
    process = start(words, session=True)
    wait_for_step(run, 11, process)
    process.kill()
    process.communicate(timeout=1000)
    train(words)
    assert [row["step"] for row in points(run)] == [*range(41)]
    assert [item["global_step"] for item in logged(run) if "loss/total" in item] == [*range(1, 41)]

    # A crash without a resume: sync adds the missing points to the files before the upload.
    shutil.rmtree(parts(run)[-1])
    assert "points added" in train(["sync", str(run), "--prepare"])
    assert [item["global_step"] for item in logged(run) if "loss/total" in item] == [*range(1, 41)]
    output = train(["sync", str(run)], code=1, WANDB_API_KEY=SECRET, WANDB_BASE_URL="http://127.0.0.1:9")
    assert " 0 points added" in output
    assert "not uploaded" in output
    assert SECRET not in output
    assert_nowhere(run, SECRET)
    assert "API key" in train(["sync", str(run)], code=1)


def test_a_full_disk_keeps_points_until_there_is_room(tmp_path, monkeypatch, capsys):
    config = VAERun(DataConfig("d"), tmp_path / "run", tracking=TrackingConfig(wandb="disabled"))
    sent = tracker.Tracker(RunDir.create_or_resume(config, "vae", "f"), config.tracking, 0, "disabled")
    sent.log(0, {"a": 0.5})
    write = tracker.append_sealed

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tracker, "append_sealed", full)
    sent.log(1, {"a": 1.5})
    sent.log(2, {"a": 2.5})
    monkeypatch.setattr(tracker, "append_sealed", write)
    sent.log(3, {"a": 3.5})
    sent.close(failed=False)
    assert [(row["step"], row["a"]) for row in points(tmp_path / "run")] == [(0, 0.5), (1, 1.5), (2, 2.5), (3, 3.5)]
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line


def test_a_part_is_read_once_until_it_grows(tmp_path, monkeypatch):
    """A run of a hundred attempts has a hundred parts, and reading a part takes most of a second."""
    read = []

    def points_of(file):
        read.append(file.parent.name)
        return [(file.stat().st_size, 1)]

    def write(name, size):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "run-x.wandb").write_bytes(b"." * size)

    def steps():
        return wandb_run.steps_in(sorted(tmp_path.glob("offline-run-*/*.wandb")))

    monkeypatch.setattr(wandb_run, "points_of_part", points_of)
    assert steps() == set()
    write("offline-run-1", 10)
    write("offline-run-2", 20)
    assert steps() == {10, 20}
    assert steps() == {10, 20}
    assert read == ["offline-run-1", "offline-run-2"]
    write("offline-run-2", 21)
    assert steps() == {10, 21}
    assert read == ["offline-run-1", "offline-run-2", "offline-run-2"]
    shutil.rmtree(tmp_path / "offline-run-1")
    (tmp_path / wandb_run.STEPS_FILE).write_text("{cut sh")
    assert steps() == {21}


def test_parts_are_uploaded_in_the_order_of_attempts(tmp_path, monkeypatch):
    """Their names have local times: the second attempt ran in a time zone farther west, the third has no points yet."""
    points_in = {"offline-run-20260102_090000-x": [(0, 1), (1, 1)], "offline-run-20260102_030000-x": [(2, 2), (3, 2)]}
    points_in["offline-run-20260102_040000-x"] = []
    points_in["offline-run-20260102_050000-x"] = [(1, 1), (2, 2)]  # added by sync
    for name in points_in:
        (tmp_path / "wandb" / name).mkdir(parents=True)
        (tmp_path / "wandb" / name / "run-x.wandb").write_bytes(b"")
    uploaded = []
    monkeypatch.setattr(wandb_run, "points_of_part", lambda file: points_in[file.parent.name])
    for name, answer in (("wandb_mode", "online"), ("server_answers", True), ("complete", 0)):
        monkeypatch.setattr(wandb_sync, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(wandb_sync, "upload", lambda run, folder: uploaded.append(points_in[folder.name]))
    monkeypatch.setattr(RunDir, "open", lambda path: RunDir(path, Record("x", "vae", {}, ""), attempt=3))
    (tmp_path / "metrics.jsonl").touch()
    assert wandb_sync.sync(SimpleNamespace(run_dir=tmp_path, prepare=False)) == 0
    assert uploaded == [[], [(0, 1), (1, 1)], [(1, 1), (2, 2)], [(2, 2), (3, 2)]]


def test_points_are_forgotten_with_lines_that_were_cut_short(tmp_path):
    file = tmp_path / "metrics.jsonl"
    tracker.forget_after(file, 3)
    assert not file.exists()
    rows = [{"step": step} for step in range(6)]
    text = [json.dumps(row) for row in rows]
    for cut in ("", text[4][:5]):
        for end in ("", "\n", text[5][:4]):
            file.write_text("\n".join(filter(None, [*text[:4], cut, text[4]])) + "\n" + end)
            tracker.forget_after(file, 4)
            assert file.read_text().splitlines() == text[:5]
    tracker.forget_after(file, 2)
    assert file.read_text().splitlines() == text[:3]
    tracker.forget_after(file, 0)
    assert file.read_text() == ""


def test_gaps_in_the_parts_on_disk_are_filled(tmp_path, monkeypatch):
    """A part written on a full disk lacks points in the middle."""
    logged = []
    part = SimpleNamespace(log=lambda point: logged.append(point["global_step"]), finish=lambda exit_code: None)
    monkeypatch.setattr(wandb_sender, "start_part", lambda *_: part)
    monkeypatch.setattr(wandb_sender, "steps_in", lambda _: {0, 1, 3})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in range(6)))
    run = RunDir(tmp_path, Record("x", "vae", {}, ""), attempt=1)
    wandb_sender.Sender(run, TrackingConfig(), "offline").close(failed=False)
    assert logged == [2, 4, 5]
