"""Every flag, setting and measure that a document names exists."""

import importlib
import inspect
import re
from functools import cache
from typing import get_type_hints

import pytest
from documents import DOCUMENTS, ROOT, blocks, prose, quoted

from audiovae import Autoencoder
from shards.__main__ import _functions, _make_parser
from train.cli.parser import SHORT, make_parser
from train.cli.settings_files import names_of
from train.config import RUNS

# Flags of other programs, and of the tools beside the packages.
FOREIGN = {
    *("config_file", "num_processes", "mixed_precision", "use_deepspeed", "zero_stage"),  # accelerate
    *("offload_optimizer_device", "num_machines"),
    *("nodes", "gpus-per-node", "cpus-per-task", "array", "signal", "time", "dependency", "exclude"),  # sbatch
    *("requeue", "partition", "qos", "account", "mem", "ntasks-per-node", "output", "constraint", "gres", "tmp"),
    *("nv", "bind", "container-image", "container-mounts", "ntasks", "no-requeue", "export", "gpus"),
    *("kill-on-bad-exit", "kill-on-invalid-dep", "chdir", "open-mode", "parsable", "wait", "hint", "job-name"),
    *("kills", "seed", "json", "kinds", "quick", "folder", "seeds"),  # chaos, bench, quality, league
    *("out", "minutes", "fresh"),  # gpu
    *("pace", "memory"),  # scale
    *("dry-run", "chain"),  # slurm/*.sh
    *("no-deps", "extra-index-url", "no-index", "target"),  # pip
    "version",  # of each command, before its subcommands
}
GROUPS = {name for run in RUNS.values() for name, is_group in names_of(run).items() if is_group}
# Names in the shape of a setting that are none.
NO_SETTING = {"data.mix", "data.py", "weights.py", "model.safetensors", "optim.safetensors"}
# What a loaded model has: `model` is a variable in examples of the library.
MODEL = {f"model.{name}" for name in {*dir(Autoencoder), *get_type_hints(Autoencoder), "config"}}
PANELS = (ROOT / "docs" / "tracking.md").read_text()
SECTIONS = ("loss", "weight", "optim", "perf", "valid", "codebook", "model", "data")


@cache
def settings() -> set[str]:
    """Dotted names of all families' settings."""
    return {name for run in RUNS.values() for name in names_of(run)}


@cache
def flags() -> set[str]:
    """All flags of the project's commands, with underscores."""
    known = settings() | {*SHORT, "help", "config", "print_config"}
    # The library's commands are functions; which of them has which flag is asked in test_doc_commands.
    for function in vars(importlib.import_module("audiovae.commands")).values():
        if inspect.isfunction(function):
            known |= {*inspect.signature(function).parameters}
    for parser in (make_parser(), _make_parser(_functions())[0]):
        for command in parser._subcommands_action._name_parser_map.values():
            known |= {word[2:].rstrip("+") for action in command._actions for word in action.option_strings}
    return known


@cache
def measures() -> list[re.Pattern]:
    """Names of the log, as the table of panels has them; a test of its own keeps that table complete."""
    names = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`[^|]+)\|", PANELS, re.MULTILINE)))
    return [re.compile(re.escape(name).replace("_N", r"_(\d+|N|\\\*)")) for name in names]


def unknown_flags(text: str) -> set[str]:
    """Flags in backticks or in shell blocks that no command has."""
    code = " \n".join([*quoted(text), *blocks(text)])
    found = set(re.findall(r"(?<![\w-])--([a-zA-Z][\w.-]*\w)", code))
    return {flag for flag in found if flag not in FOREIGN and flag.replace("-", "_") not in flags()}


def unknown_settings(text: str) -> set[str]:
    """Dotted names in backticks that begin like a setting and are none."""
    shape = re.compile(rf"(?:{'|'.join(sorted(GROUPS, key=len, reverse=True))})(?:\.\w+)+")
    found = {match[0] for words in quoted(text) if (match := shape.match(words))}
    return found - settings() - NO_SETTING - MODEL


def unknown_measures(text: str) -> set[str]:
    """Names in backticks in the shape of a measure that nothing logs; `weight/kl*` stands for all that begin so."""
    found = set()
    for words in quoted(text):
        match = re.fullmatch(rf"(?:{'|'.join(SECTIONS)})/[a-z_0-9N*]+", words)
        if match and not any(one.fullmatch(words) or starts(words, one) for one in measures()):
            found.add(words)
    return found


def starts(words: str, one: re.Pattern) -> bool:
    """Whether a name with a star at its end stands for this measure among others."""
    return words.endswith("*") and one.pattern.replace("\\", "").startswith(words[:-1])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_documents_name_exists(document):
    text = document.read_text()
    assert not unknown_flags(text)
    assert not unknown_settings(text)
    assert not unknown_measures(text)


def test_families_and_presets_exist():
    for document in DOCUMENTS:
        for preset in re.findall(r"train/configs/[\w/]+\.yaml", prose(document.read_text())):
            assert (ROOT / preset).exists(), (document.name, preset)


def test_files_of_the_project_exist():
    """Paths in backticks into the project's own folders."""
    for document in DOCUMENTS:
        for words in quoted(document.read_text()):
            match = re.fullmatch(
                r"((?:train|shards|audiovae|tests|docs|slurm|chaos|bench)/[\w/.-]+\.(?:py|sh|md))", words
            )
            if match:
                assert (ROOT / match[1]).exists(), (document.name, words)
        for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::|: )(\w+)`", document.read_text()):
            assert f"def {name}(" in (ROOT / file).read_text(), (document.name, name)


def test_the_eyes_of_these_tests_are_open():
    assert unknown_flags("`--optim.speed 3` and `--run-dir`, `--kills`\n```sh\nx --optim.lr 1 --tempo 2\n```\n") == {
        "optim.speed",
        "tempo",
    }
    assert unknown_settings("`optim.speed` `optim.lr 5` `model.quantizer.sizes: 3` `kl_warmup.shape`") == {
        "optim.speed",
        "model.quantizer.sizes",
    }
    assert unknown_measures("`loss/none` `loss/kl_2` `loss/kl_N` `weight/kl*` `valid/x*` `model/dead_codes`") == {
        "loss/none",
        "valid/x*",
    }
