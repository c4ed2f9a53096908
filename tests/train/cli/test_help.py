"""What the commands say about themselves."""

import os
import subprocess
import sys

import pytest

from tests.train.conftest import ROOT
from train.cli.parser import EXAMPLES, GROUPS, make_parser, parse
from train.config import RUNS


def said(*words: str) -> subprocess.CompletedProcess:
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run([sys.executable, "-m", *words], env=surroundings, cwd=ROOT, text=True, capture_output=True)


def test_nothing_asked_for_says_what_there_is():
    done = said("train")
    assert done.returncode == 2
    assert not done.stdout
    for group, names in GROUPS.items():
        assert f"{group}:" in done.stderr
        for name in names:
            assert f"\n  {name} " in done.stderr
    assert EXAMPLES[""] in done.stderr
    assert "Traceback" not in done.stderr


def test_of_the_shards_too():
    done = said("shards")
    assert done.returncode == 2
    assert "build" in done.stderr
    assert "\n  python -m shards build recordings/ data/\n" in done.stderr


def commands() -> dict:
    return make_parser()._subcommands_action._name_parser_map


def test_every_command_is_in_one_group():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(commands())


@pytest.mark.parametrize("name", [name for names in GROUPS.values() for name in names])
def test_the_help_of_each_ends_with_examples_that_parse(name):
    text = commands()[name].format_help()
    assert text.startswith(f"usage: python -m train {name} ")
    assert EXAMPLES[name].strip() in text
    for line in EXAMPLES[name].splitlines()[1:]:
        assert parse(line.split()[3:])[0] == name
    if name in RUNS:
        assert "touch RUN_DIR/STOP" in text
        for group in ("Shards and batches:", "Optimisation:", "Saving:", "Logging:", "Weights of the loss terms:"):
            assert f"\n{group}\n" in text


def test_a_training_imports_nothing_that_it_does_not_use():
    """Every process of every attempt pays for it: with W&B disabled neither W&B nor plotting is imported."""
    names = ("wandb", "matplotlib", "PIL", "scipy", "torchmetrics", "transformers", "s3fs")
    script = f"import sys, train.training.loop, train.cli.parser; print([x for x in {names} if x in sys.modules])"
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"
