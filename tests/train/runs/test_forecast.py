"""Warnings about the length of a run. The forecast itself is tested with the preflight check."""

import shutil

import pytest

from tests.train.conftest import STEPS, flags, points, train
from train.cli.parser import parse
from train.runs.forecast import rate_jump, warmup_warnings
from train.runs.settings_history import Change


def warnings_of(family: str, *flags: str) -> list[str]:
    return warmup_warnings(parse([family, "--data", "x", "--run-dir", "y", "--optim.steps", "20", *flags])[1])


def test_a_run_that_ends_inside_a_warm_up_gets_one_line():
    (line,) = warnings_of("vae", "--optim.warmup_steps", "50", "--kl_warmup.start", "10", "--kl_warmup.steps", "15")
    assert line.startswith("warning: optim.steps is 20, but optim.warmup_steps ends at step 50 and kl_warmup ends at")
    assert "raise optim.steps or shorten the warm-up" in line
    (line,) = warnings_of("hvae", "--optim.warmup_steps", "5", "--kl_warmup.steps", "1000")
    assert "kl_warmup ends at step 1,000: the run ends" in line
    assert "optim.warmup_steps" not in line


@pytest.mark.parametrize(
    ("family", "flags"),
    [
        ("vae", ["--optim.warmup_steps", "5", "--kl_warmup.steps", "10"]),
        ("vae", ["--optim.warmup_steps", "0", "--kl_warmup.steps", "0"]),
        ("vqvae", ["--optim.warmup_steps", "5", "--model.quantizer.start_step", "2"]),  # no KL, so no KL warm-up
    ],
)
def test_other_runs_get_none(family, flags):
    assert not warnings_of(family, *flags)


def longer(before: dict, *flags: str, step: int = 1000) -> str:
    words = ["vae", "--data", "x", "--run-dir", "y", "--optim.steps", "2000", *flags]
    return rate_jump(parse(words)[1], [Change(2, step, {key: (value, None) for key, value in before.items()})], step)


def test_a_run_made_longer_is_told_of_a_jump_of_its_rate():
    line = longer({"optim.steps": 1000}, "--optim.lr", "0.001")
    assert "from 5e-05 to 0.000" in line
    assert "--optim.hold_from 1000" in line
    assert "--optim.cycle_from 1000" in line


def test_others_are_not_told():
    assert not longer({"optim.lr": 1e-5}), "a change that the user wants"
    assert not longer({"optim.steps": 1000}, step=0)
    for how in ("hold_from", "cycle_from"):
        assert not longer({"optim.steps": 1000, f"optim.{how}": 0}, f"--optim.{how}", "1000")
    assert not longer({"optim.steps": 1000}, "--optim.schedule", "constant", "--optim.decay_share", "0.1", step=500)
    assert not longer({"optim.steps": "of another version"})


def test_a_finished_run_goes_on_at_its_last_rate_exactly(straight, data_dir, tmp_path):
    """The real commands: a finished run made longer, with and without a stop in the extension."""
    first = straight("vae")
    runs = [tmp_path / "whole", tmp_path / "stopped"]
    more = ["--optim.steps", str(STEPS + 4), "--allow_changes", "true", "--optim.hold_from", str(STEPS)]
    more += ["--relocated", "moved"]
    for run in runs:
        shutil.copytree(first, run)
    assert "learning rate jumps" not in train(flags("vae", data_dir, runs[0], *more))
    train([*flags("vae", data_dir, runs[1], *more), "--stop_at", str(STEPS + 2)], code=85)
    train(flags("vae", data_dir, runs[1], *more))
    one, two = (run / "model/model.safetensors" for run in runs)
    assert one.read_bytes() == two.read_bytes()
    rates = [row["optim/learning_rate"] for row in points(runs[1]) if row["step"] > STEPS]
    assert rates == [pytest.approx(5e-5)] * 4
