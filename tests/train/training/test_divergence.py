"""A training that diverges: it is told when it happens, and the last good checkpoint is the model."""

import json
import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.train.conftest import flags, train
from train.optim.divergence import FAR, PATIENCE, Health
from train.runs.checkpoint import Retention, deletable, good_step, last_good

evaluations = st.lists(st.sampled_from(["sound", "far", "not finite", "unknown"]), max_size=12)
RESULTS = {"sound": (True, 0.5), "far": (True, 2 * FAR), "not finite": (False, None), "unknown": (True, None)}


@given(evaluations, st.integers(0, 12))
def test_health_is_that_of_the_newest_evaluations_and_survives_a_resume(found, at):
    health, told = Health(), []
    for step, what in enumerate(found, start=1):
        if step == at:
            health = Health.from_state(json.loads(json.dumps(health.to_state())), step)
        if health.note(step, *RESULTS[what]):
            told.append(step)
        bad = next((n for n, w in enumerate(reversed(found[:step])) if w in ("sound", "unknown")), step)
        newest = found[step - bad : step]
        assert health.good == step - bad
        assert health.since == (step - bad + 1 if bad else 0)
        assert health.diverged == ("not finite" in newest or len(newest) >= PATIENCE)
    onsets = [step for step in told if step - 1 not in told]
    assert told == onsets, "each divergence is told once"


def test_a_state_of_an_older_version_is_sound():
    assert Health.from_state(None, 7) == Health(good=7)
    assert Health.from_state({"good": -1, "far": "x"}, 7) == Health(good=7)


def test_the_last_good_checkpoint_is_kept_while_newer_ones_are_not_good(tmp_path):
    for step in (1, 3, 4, 5, 6):
        (tmp_path / f"step-{step:08d}").mkdir()
    kept = {path.name for path in tmp_path.iterdir()} - {
        path.name for path in deletable(tmp_path, Retention(2, best=False), good=3)
    }
    assert kept == {"step-00000003", "step-00000005", "step-00000006"}
    assert last_good(tmp_path, good=3, since=4) is None, "a checkpoint without its manifest is not intact"


def test_the_checkpoint_of_the_last_evaluation_stays_until_the_next_one(tmp_path):
    """With more than `keep` checkpoints between two evaluations."""
    for step in range(10, 20):
        (tmp_path / f"step-{step:08d}").mkdir()
    state = {"step": 19, "health": Health(good=10).to_state()}
    gone = {path.name for path in deletable(tmp_path, Retention(2, best=False), good_step(state))}
    assert {path.name for path in tmp_path.iterdir()} - gone == {f"step-{step:08d}" for step in (10, 18, 19)}
    assert good_step({"step": 19}) is None


def test_a_run_that_diverges_says_so_and_exports_its_last_good_checkpoint(data_dir, tmp_path):
    """The real command: three steps as usual, then a rate that no training survives."""
    run = tmp_path / "vae"
    more = ["--checkpoint.every", "1", "--checkpoint.keep", "1", "--checkpoint.keep_best", "false"]
    more += ["--tracking.evaluate_every", "1", "--tracking.audio_every", "100", "--optim.steps", "6"]
    more += ["--adversarial.start", "2", "--adversarial.windows", "[64]", "--adversarial.filters", "2"]
    more += ["--adversarial.freeze", "false"]
    train([*flags("vae", data_dir, run, *more), "--stop_at", "3"], code=85)
    good = load_file(run / "checkpoints/step-00000003/model.safetensors")
    judge = load_file(run / "checkpoints/step-00000003/discriminator.safetensors")
    told = train(flags("vae", data_dir, run, *more, "--optim.lr", "1e3", "--allow_changes", "true"))
    assert "Warning" not in told
    assert "Traceback" not in told
    (line,) = [line for line in told.splitlines() if "the training has diverged" in line]
    assert "it was last sound at step 3" in line
    note = "the training diverged at step 4; the model is that of step 3, the last good checkpoint"
    assert (run / "DONE").read_text() == f"step 6: finished; {note}\n"
    assert note in (run / "model" / "README.md").read_text()
    assert json.loads((run / "model" / "facts.json").read_text())["steps"] == 3
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert kept == ["step-00000002", "step-00000003", "step-00000006"]  # the first is from before the phase
    model = load_file(run / "model/model.safetensors")
    assert all(torch.equal(model[name], good[name]) for name in good)
    shipped = load_file(run / "model/discriminator.safetensors")
    assert all(torch.equal(shipped[name], judge[name]) for name in judge)
    status = train(["status", str(run)])
    assert f"warning: {note}" in status


def test_losses_that_are_not_finite_count_from_the_second_point_on():
    """Without held-out recordings: skipped steps leave the weights as they are, so one point may be an accident."""
    health = Health()
    assert not health.note(1, True, math.inf)
    assert health.note(2, True, math.inf)
    assert not health.note(3, True)
    assert health == Health(good=3)
