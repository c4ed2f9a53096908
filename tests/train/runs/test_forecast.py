"""Warnings about the length of a run. The forecast itself is tested with the preflight check."""

import pytest

from train.cli.parser import parse
from train.runs.forecast import warmup_warnings


def warnings_of(family: str, *flags: str) -> list[str]:
    return warmup_warnings(parse([family, "--data", "x", "--run-dir", "y", "--optim.steps", "20", *flags])[1])


def test_a_run_that_ends_inside_a_warm_up_gets_one_line():
    (line,) = warnings_of("vae", "--optim.warmup_steps", "50", "--kl_warmup.start", "10", "--kl_warmup.steps", "15")
    assert line.startswith("warning: optim.steps is 20, but optim.warmup_steps ends at step 50 and kl_warmup ends at")
    assert "raise optim.steps or shorten the warm-up" in line
    (line,) = warnings_of("hvae", "--optim.warmup_steps", "5")
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
