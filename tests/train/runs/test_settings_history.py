"""The record of a run's settings: what changed, from which step on, and what holds when parts of it are lost."""

import html
import json
import os
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.conftest import flags, points, train
from tests.train.wandb_reader import parts, records
from train.config import DataConfig, OptimConfig, TrackingConfig, VAERun
from train.errors import TrainError
from train.runs import run_folder
from train.runs.model_facts import chunks_seen
from train.runs.record import Record
from train.runs.run_folder import RunDir
from train.runs.settings_history import Change, at_step, extended, segments

BASE = {"optim.lr": 1, "data.batch": 4, "tracking.every": 5}
settings = st.builds(
    lambda lr, batch, every: {"optim.lr": lr, "data.batch": batch, "tracking.every": every},
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
)
# Attempts: the settings, the step at the start, and how many steps of it a later attempt resumes from.
attempts = st.lists(st.tuples(settings, st.integers(0, 6), st.integers(0, 30)), max_size=8)


def bound(values):
    return {key: value for key, value in values.items() if not key.startswith("tracking.")}


@given(attempts)
def test_each_step_has_the_settings_that_it_was_trained_with(attempts):
    """Against a list that has the settings of every step, with attempts that resume from anywhere before."""
    trained: list[dict] = []  # the settings of step 1, 2, ...
    now, changes = BASE, []
    trained += [BASE] * 3
    for number, (after, steps, back) in enumerate(attempts, start=2):
        step = max(0, len(trained) - back)
        changes = extended(now, changes, after, number, step)
        now = after
        trained = trained[:step] + [after] * steps
        for place, expected in enumerate(trained, start=1):
            assert bound(at_step(now, changes, place)) == bound(expected)
        assert [start for start, _ in segments(now, changes)] == sorted({0, *(change.step for change in changes)})
        total = sum(values["data.batch"] for values in trained)
        assert chunks_seen(RunDir(None, Record("", "vae", now, "", changes), 1), len(trained)) == total


@given(attempts)
def test_the_record_comes_back_from_its_bytes_and_no_flip_goes_unnoticed(attempts):
    changes = [Change(place, step, {"optim.lr": (1, values)}) for place, (values, step, _) in enumerate(attempts)]
    record = Record("id", "vae", BASE, "print", changes)
    content = record.to_bytes()
    assert json.loads(content)["config"] == BASE
    back = Record.from_bytes(content)
    assert back.to_bytes() == content
    assert [str(change) for change in back.changes] == [str(change) for change in changes]
    for place in range(0, len(content), 7):
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        try:
            assert Record.from_bytes(flipped).to_bytes() == content, "white space alone may differ"
        except ValueError:
            continue


def config_of(run, lr=1e-3, every=20, allow=False, steps=100):
    tracking = TrackingConfig(wandb="disabled", every=every)
    optim = OptimConfig(lr=lr, steps=steps)
    return VAERun(DataConfig("d"), run, optim=optim, tracking=tracking, allow_changes=allow)


def place(step):
    return {"step": step, "epoch": 0, "consumed": 0, "batch": 64, "seed": 0}


def opening(run, fingerprint="f", **settings):
    """As a process does that then ends, with which its lock goes."""
    try:
        return RunDir.create_or_resume(config_of(run, **settings), "vae", fingerprint)
    finally:
        while run_folder._locks:
            os.close(run_folder._locks.pop())


def attempt(run, step, fingerprint="f", **settings):
    opened = opening(run, fingerprint, **settings)
    said = opened.begin(1, place(step))
    saved = run / f"checkpoints/step-{step:08d}"
    saved.mkdir(exist_ok=True)
    (saved / "run.json").write_bytes(opened.record.to_bytes())
    return said


def test_the_newest_settings_are_the_runs_and_going_back_is_a_change(tmp_path):
    run = tmp_path / "run"
    attempt(run, 0)
    with pytest.raises(TrainError, match=r"optim.lr: 0.001 -> 0.002"):
        attempt(run, 10, lr=2e-3)
    assert RunDir.open(run).changes == []
    (change,) = attempt(run, 10, lr=2e-3, allow=True)
    assert str(change) == "from step 11 on (attempt 2): optim.lr 0.001 -> 0.002"
    assert attempt(run, 20, lr=2e-3, every=7) == [], "logging is free"
    assert RunDir.open(run).config["tracking.every"] == 7
    with pytest.raises(TrainError, match=r"optim.lr: 0.002 -> 0.001\n  Its settings changed from step 11 on"):
        attempt(run, 30)
    (change,) = attempt(run, 30, allow=True)
    assert str(change) == "from step 31 on (attempt 4): optim.lr 0.002 -> 0.001"
    assert len(RunDir.open(run).changes) == 2
    lines = [json.loads(line) for line in (run / "attempts.jsonl").read_text().splitlines()]
    differing = [line.get("changed", {}) for line in lines if line["event"] == "started"]
    assert differing == [
        {},
        {"optim.lr": [0.001, 0.002]},
        {"tracking.every": [20, 7]},
        {"optim.lr": [0.002, 0.001], "tracking.every": [7, 20]},
    ]


def test_other_data_are_the_runs_data_from_then_on(tmp_path):
    run = tmp_path / "run"
    attempt(run, 0)
    with pytest.raises(TrainError, match=r"data_fingerprint: f -> g"):
        attempt(run, 10, "g")
    attempt(run, 10, "g", allow=True)
    assert attempt(run, 20, "g") == []
    opened = RunDir.open(run)
    assert opened.data_fingerprint == "g"
    assert at_step(opened.record.settings, opened.changes, 10)["data_fingerprint"] == "f"


def test_settings_of_an_attempt_that_did_not_begin_are_not_the_runs(tmp_path):
    run = tmp_path / "run"
    attempt(run, 0)
    opening(run, lr=2e-3, allow=True)
    assert RunDir.open(run).config["optim.lr"] == 1e-3
    assert attempt(run, 10) == []


@pytest.mark.parametrize("loss", ["flipped", "empty", "missing", "in two checkpoints too"])
def test_a_lost_record_comes_from_a_checkpoint(tmp_path, capsys, loss):
    run = tmp_path / "run"
    for step in (0, 10, 20):
        attempt(run, step)
    file = run / "run.json"
    before = file.read_bytes()
    files = [file, *sorted((run / "checkpoints").glob("*/run.json"))[1:]] if "checkpoints" in loss else [file]
    for path in files:
        content = path.read_bytes()
        path.write_bytes(b"" if loss == "empty" else content.replace(b'"seed": 0', b'"seed": 1'))
        if loss == "missing":
            path.unlink()
    assert RunDir.open(run).record.to_bytes() == before
    assert "a checkpoint's copy is used" in capsys.readouterr().err
    attempt(run, 30)
    assert file.read_bytes() == before
    RunDir.open(run)
    assert "copy" not in capsys.readouterr().err.split("\n", 1)[1]


def test_a_record_without_any_copy_is_one_line(tmp_path):
    run = tmp_path / "run"
    opening(run)
    (run / "run.json").write_text('{"format": 1, ')
    with pytest.raises(TrainError, match=r"cannot read run.json \(damaged: .*restore it from a backup"):
        RunDir.open(run)
    (run / "run.json").write_text('{"format": 9}')
    with pytest.raises(TrainError, match="format 9 belongs to another version"):
        RunDir.open(run)


@pytest.mark.parametrize("left", [[], ["lock"], ["lock", "checkpoints/"], ["checkpoints/", ".0123456789abcdef.tmp"]])
def test_what_a_start_left_that_could_not_write_its_record_is_no_obstacle(tmp_path, left):
    run = tmp_path / "run"
    run.mkdir()
    for name in left:
        (run / name).mkdir() if name.endswith("/") else (run / name).touch()
    attempt(run, 0)
    assert sorted(path.name for path in run.iterdir()) == ["attempts.jsonl", "checkpoints", "lock", "run.json"]


@pytest.mark.parametrize("other", ["song.wav", "checkpoints/step-00000001/", "notes/"])
def test_what_is_no_run_is_refused(tmp_path, other):
    run = tmp_path / "run"
    place = run / other
    place.mkdir(parents=True) if other.endswith("/") else (run.mkdir(), place.touch())
    with pytest.raises(TrainError, match="not a run and not empty"):
        attempt(run, 0)


@pytest.mark.slow(area="wandb")
def test_a_changed_setting_is_in_every_record(data_dir, tmp_path):
    """The real command: changed on the way, here to the rate of the preset, and the old command then refused.

    All readers name the change.
    """
    run = tmp_path / "vae"
    words = flags("vae", data_dir, run, "--tracking.wandb", "offline", "--tracking.audio_every", "1000")
    train([*words, "--stop_at", "4"], code=85)
    assert "optim.lr" in train([*words, "--optim.lr", "0.0005"], code=1)
    said = train([*words, "--optim.lr", "0.0005", "--data.batch", "4", "--allow_changes", "true"])
    change = "from step 5 on (attempt 2): data.batch 6 -> 4, optim.lr 0.001 -> 0.0005"
    assert f"settings change {change}" in said
    assert "optim.lr: 0.0005 -> 0.001" in train(words, code=1)
    assert f"settings changed {change}" in train(["status", str(run)])
    assert json.loads(train(["status", str(run), "--json"]))["changes"][0]["settings"]["optim.lr"] == [0.001, 0.0005]
    facts = json.loads((run / "model/facts.json").read_text())
    assert facts["settings"]["optim.lr"] == 0.0005
    assert facts["settings"]["changes"] == [change]
    assert facts["chunks_seen"] == 4 * 6 + (points(run)[-1]["step"] - 4) * 4
    assert change in html.unescape((run / "model/README.md").read_text())
    train(["evaluate", str(run), "--examples", "1"])
    page = html.unescape((run / "report/index.html").read_text())
    assert "from step 5 on (attempt 2)" in page
    configs = [row for part in parts(run) for row in records(part) if row["type"] in ("run", "config")]
    assert change in json.dumps(configs).replace("\\u003e", ">")
    assert "chunk" in train(["which-samples", str(run), "--step", str(points(run)[-1]["step"])])
    # The commands on the page make the same run.
    from train.evaluation.report.facts import training_commands

    again = tmp_path / "again"
    for command in training_commands(RunDir.open(run)):
        assert command in page
        words = [str(again) if word == str(run) else word for word in shlex.split(command)[3:]]
        train(words, code=85 if "--stop_at" in words else 0)
    assert (again / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()


def test_fewer_steps_than_done_are_refused(data_dir, tmp_path):
    run = tmp_path / "vae"
    words = flags("vae", data_dir, run)
    train([*words, "--stop_at", "6"], code=85)
    said = train([*words, "--optim.steps", "4", "--allow_changes", "true"], code=1)
    assert "the run is at step 6, and optim.steps is 4" in said
    assert "finished" in train(words)
