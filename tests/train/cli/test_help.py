"""The help texts of the commands."""

import dataclasses
import os
import subprocess
import sys

import pytest

from shards.cli.help_text import TYPES, plain_type
from tests.train.conftest import ROOT
from train.cli.parser import examples_of, groups_of_commands, make_parser, parse
from train.config import RUNS, VAERun

COMMANDS = [name for names in groups_of_commands().values() for name in names]


def run(*words: str) -> subprocess.CompletedProcess:
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run([sys.executable, "-m", *words], env=surroundings, cwd=ROOT, text=True, capture_output=True)


def test_without_a_command_it_prints_the_overview():
    done = run("train")
    assert done.returncode == 2
    assert not done.stdout
    for group, names in groups_of_commands().items():
        assert f"{group}:" in done.stderr
        for name in names:
            assert f"\n  {name} " in done.stderr
    assert examples_of("") in done.stderr
    assert "Traceback" not in done.stderr


def test_the_shards_command_too():
    done = run("shards")
    assert done.returncode == 2
    assert "build" in done.stderr
    assert "\n  python -m shards build recordings/ data/\n" in done.stderr


def test_every_command_is_in_one_group():
    assert sorted(COMMANDS) == sorted(make_parser().commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_ends_with_examples_that_parse(name):
    text = make_parser().commands[name].format_help()
    assert text.startswith(f"usage: python -m train {name} ")
    assert examples_of(name).strip() in text
    for line in examples_of(name).splitlines()[1:]:
        assert parse(line.split()[3:])[0] == name
    if name in RUNS:
        assert "touch RUN_DIR/STOP" in text
        for group in ("The run:", "Shards and batches:", "Optimisation:", "Saving:", "Logging:"):
            assert f"\n{group}\n" in text
        assert "\nWeights of the loss terms:\n" in text


def test_a_training_imports_nothing_that_it_does_not_use():
    """Every process of every attempt pays for it: with W&B disabled neither W&B nor plotting is imported."""
    names = ("wandb", "matplotlib", "PIL", "scipy", "torchmetrics", "transformers", "s3fs")
    script = f"import sys, train.training.loop, train.cli.parser; print([x for x in {names} if x in sys.modules])"
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_types_are_plain_words(name):
    text = " ".join(make_parser().commands[name].format_help().split())
    for internal in (
        "type:",
        "<class",
        "NonNegative",
        "Positive",
        "UnitInterval",
        "Literal[",
        "list[",
        "tuple[",
        "%(",
        "default: null",
    ):
        assert internal not in text
    assert "keywords separated by comma" not in text


def test_a_heading_has_one_colon():
    for line in make_parser().commands["vae"].format_help().splitlines():
        if line.endswith(":") and not line.startswith(" "):
            assert line.count(":") == 1


def test_a_type_without_plain_words_keeps_its_name():
    assert plain_type("<class 'Path'>") == plain_type("Path | null") == TYPES["Path"]
    assert plain_type("Fraction") == "Fraction"


def test_a_family_is_registered_in_one_table(monkeypatch):
    """A fourth run class in RUNS has a subcommand, help and examples; nothing else names it."""

    @dataclasses.dataclass
    class FlowRun(VAERun):
        """Train a flow."""

    monkeypatch.setitem(RUNS, "flow", FlowRun)
    overview = make_parser().format_help()
    assert "\n  flow           Train a flow.\n" in overview
    text = make_parser().commands["flow"].format_help()
    for line in examples_of("flow").splitlines()[1:]:
        assert line in text
        command, config = parse(line.split()[3:])
        assert command == "flow"
        assert type(config) is FlowRun
    command, verification = parse(["verify-resume", "flow", "--data", "x", "--seed", "3"])
    assert command == "verify-resume"
    assert verification.config.seed == 3
