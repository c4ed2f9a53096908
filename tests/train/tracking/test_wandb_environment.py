"""W&B's environment variables: those of the first attempt hold, and others are honoured or refused."""

import json
import os

import pytest

from tests.train.conftest import STEPS, flags, points, train
from tests.train.wandb_reader import history, parts, records
from train.config import DataConfig, OptimConfig, TrackingConfig, VAERun
from train.errors import TrainError
from train.runs import run_folder
from train.runs.run_folder import RunDir
from train.tracking.wandb_environment import identity, name_of, notes, project_of
from train.tracking.wandb_settings import wandb_mode


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """No variable of W&B's from outside."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)


def begun(run, wandb="offline", steps=100, checkpoint=True, **more) -> RunDir:
    """An attempt at a run, with a checkpoint to all appearances."""
    tracking = TrackingConfig(wandb=wandb)
    config = VAERun(DataConfig("d"), run, optim=OptimConfig(steps=steps), tracking=tracking, **more)
    try:
        found = RunDir.create_or_resume(config, "vae", "f", *identity(tracking))
        found.begin(1, {"step": 0, "epoch": 0, "consumed": 0, "batch": 64, "seed": 0})
    finally:
        while run_folder._locks:
            os.close(run_folder._locks.pop())
    if checkpoint:
        (run / "checkpoints" / "step-00000001").mkdir(exist_ok=True)
    return found


@pytest.mark.parametrize("checkpoint", [True, False])
def test_the_first_attempt_s_run_holds_without_its_environment(tmp_path, monkeypatch, checkpoint):
    environment = {"RUN_ID": "trial-1", "SWEEP_ID": "s1", "PROJECT": "mine", "ENTITY": "us", "NAME": "n"}
    for name, value in environment.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    first = begun(tmp_path / "run", checkpoint=checkpoint)
    for name in environment:
        monkeypatch.delenv(f"WANDB_{name}")
    again = begun(tmp_path / "run", checkpoint=checkpoint)
    assert again.run_id == first.run_id == "trial-1"
    assert again.record.wandb == {"sweep_id": "s1", "entity": "us", "project": "mine", "name": "n"}
    assert (project_of(again, ""), name_of(again, "")) == ("mine", "n")
    assert (project_of(again, "flag"), name_of(again, "flag")) == ("flag", "flag")
    monkeypatch.setenv("WANDB_PROJECT", "other")
    monkeypatch.setenv("WANDB_DIR", "/scratch")
    assert begun(tmp_path / "run").record.wandb["project"] == "mine"
    one, two = notes(again)
    assert "WANDB_PROJECT=other is not used" in one
    assert "WANDB_DIR is not used" in two


def test_another_trial_in_the_same_folder_is_refused(tmp_path, monkeypatch):
    run_id = begun(tmp_path / "run").run_id
    monkeypatch.setenv("WANDB_RUN_ID", "trial-2")
    again = begun(tmp_path / "run")
    assert again.run_id == run_id
    assert notes(again) == [f"WANDB_RUN_ID=trial-2 is not used: since its first attempt, the run has the id {run_id}"]
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    with pytest.raises(TrainError, match=rf"=trial-2 is not this run's \({run_id}\): unset .*own --run-dir"):
        begun(tmp_path / "run")
    assert begun(tmp_path / "run", wandb="disabled").run_id == run_id
    monkeypatch.setenv("WANDB_RUN_ID", run_id)
    assert begun(tmp_path / "run").run_id == run_id


def test_a_copy_is_not_given_the_id_of_its_original(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "trial-1")
    begun(tmp_path / "run")
    os.system(f"cp -r {tmp_path}/run {tmp_path}/copy")
    with pytest.raises(TrainError, match="WANDB_RUN_ID=trial-1 is the original's"):
        begun(tmp_path / "copy", relocated="copied")
    monkeypatch.setenv("WANDB_RUN_ID", "trial-2")
    assert begun(tmp_path / "copy", relocated="copied").run_id == "trial-2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_RUN_ID", "a/b"),
        ("WANDB_RESUME", "must"),
        ("WANDB_RESUME", "never"),
        ("WANDB_RESUME_FROM", "x?_step=3"),
        ("WANDB_FORK_FROM", "x?_step=3"),
        ("WANDB_PROJECT", "p" * 10**6),
    ],
)
def test_what_cannot_be_followed_is_refused_before_a_folder_is_made(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(TrainError, match=name):
        begun(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    begun(tmp_path / "run", wandb="disabled")


@pytest.mark.parametrize(
    ("value", "mode"),
    [("online", "online"), ("run", "online"), ("dryrun", "offline"), ("offline", "offline"), ("disabled", "disabled")],
)
def test_modes(monkeypatch, value, mode):
    monkeypatch.setenv("WANDB_MODE", value)
    assert wandb_mode("auto") == mode
    assert wandb_mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "shared")
    with pytest.raises(TrainError, match="WANDB_MODE=shared"):
        wandb_mode("auto")


def test_an_earlier_version_s_project_holds(tmp_path, monkeypatch):
    run = begun(tmp_path / "run")
    run.record.config["tracking.project"], run.record.wandb = "before", {}
    (run.path / "run.json").write_bytes(run.record.to_bytes())
    monkeypatch.setenv("WANDB_PROJECT", "now")
    assert project_of(begun(tmp_path / "run"), "") == "before"


@pytest.mark.slow(area="wandb")
def test_a_trial_of_a_sweep_that_is_requeued_without_its_agent(data_dir, tmp_path):
    """The real commands, with the environment of W&B's agent, then without: one W&B run, each step once."""
    run, parameters = tmp_path / "vae", tmp_path / "config-trial.yaml"
    parameters.write_text("wandb_version: 1\n\noptim.lr:\n  value: 0.002\n")
    agent = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "trial-1", "WANDB_PROJECT": "mine", "WANDB_ENTITY": "us"}
    agent |= {"WANDB_SWEEP_PARAM_PATH": str(parameters), "WANDB_DIR": str(tmp_path)}
    words = flags("vae", data_dir, run, "--tracking.wandb", "offline", "--tracking.audio_every", "1000")
    words += ["--optim.lr=0.002"]
    train([*words, "--stop_at", "5"], code=85, **agent)
    train(words)
    assert json.loads((run / "run.json").read_text())["run_id"] == "trial-1"
    both = [records(part) for part in parts(run)]
    assert len(both) == 2
    for rows in both:
        (about,) = (row["run"] for row in rows if row["type"] == "run")
        assert [about[name] for name in ("run_id", "sweep_id", "project", "entity")] == [
            "trial-1",
            "sweep1",
            "mine",
            "us",
        ]
    steps = [item["global_step"] for rows in both for item in history(rows) if "loss/total" in item]
    assert steps == [*range(1, STEPS + 1)] == [row["step"] for row in points(run) if "loss/total" in row]
    assert not [*tmp_path.glob("wandb")], "W&B's files are in the run folder"
