"""The command line of `python -m train`: parsing only."""

import argparse
import dataclasses
import os
from collections import deque
from typing import Any

from jsonargparse import ArgumentParser

from shards.cli.help_text import HelpFormatter
from shards.cli.usage_errors import check_numbers, shortened
from shards.cli.usage_errors import flags_of as flags_of_parser
from shards.mixing.places import join_places
from shards.text import with_bytes, without_bytes
from train.cli.default_preset import default_preset, describes_model
from train.cli.overview import Overview
from train.cli.presets import presets, settings_file
from train.cli.settings_files import check_file, check_group, check_values, names_of
from train.cli.start_settings import start_settings
from train.cli.tools import TOOLS
from train.cli.usage_errors import ADVICE, explain
from train.config import RUNS, RunConfig
from train.errors import TrainError

TRAIN = "train a model, or resume a run"
EXAMPLES = (
    "hvae --data shards/ --run-dir runs/first --config hvae_tiny",
    "evaluate runs/first",
    "COMMAND --help",
    "--version",
)
LAUNCHED = "accelerate launch --config_file accelerate_config.yaml -m train hvae --data shards/ --run-dir runs/first"
# Flags for a family's second example; a family that is not listed shows those of FLAGS.
FLAGS_OF = {
    "vae": "--weights.kl 0.05 --kl_warmup.shape cosine",
    "hvae": "--weights.kl [0.02,0.02,0.02,0.01]",
    "vqvae": "--model.quantizer.size 512",
    "prior": "--model.transformer.layers 8",
}
FLAGS = "--optim.steps 20000 --seed 1"
# Short forms of a training's flags, and the help of those whose long form is in a group of that name.
SHORT = {"data": "data.path", "start_from": "start_from.path", "profile": "tracking.profile"}
SHORT_HELP = {
    "data": ("The folder of shards; short for --data.path. Several: --data music/ --data speech/:0.3.", "DIR"),
    "start_from": ("A model, checkpoint or run to start from; short for --start_from.path.", "PATH"),
}
TRAINING_EPILOG = """
Run the same command again to resume a run. To save and stop: touch RUN_DIR/STOP, or press Ctrl-C.
--print_config prints all settings as YAML for --config. docs/configuration.md explains each setting.
Flags may be written with dashes or underscores: --run-dir is --run_dir.
"""


@dataclasses.dataclass
class Verification:
    """The settings of `verify-resume`.

    Attributes:
        config: Settings of the training to verify.
        words: The same as words of the command line, the family first.
    """

    config: RunConfig
    words: list[str]


def groups_of_commands() -> dict[str, list[str]]:
    """Names of all subcommands under the headings of `python -m train --help`."""
    groups = {TRAIN: [*RUNS]}
    for name, tool in TOOLS.items():
        groups.setdefault(tool.group, []).append(name)
    return groups


def examples_of(command: str) -> str:
    """Examples for the end of a help text: of a subcommand, or of the program where `command` is empty."""
    if command in TOOLS:
        lines = TOOLS[command].examples
    elif command:
        start = f"{command} --data shards/ --run-dir runs/first"
        preset = f"{command}_tiny"
        lines = (
            f"{start} --config {preset}" if preset in presets() else start,
            f"{start} {FLAGS_OF.get(command, FLAGS)}",
        )
    else:
        lines = EXAMPLES
    found = [f"  python -m train {line}\n" for line in lines]
    if not command:
        found.insert(1, f"  {LAUNCHED}\n")
    return "examples:\n" + "".join(found)


def normalised(words: list[str]) -> list[str]:
    """The words of a command line with flags as the parser names them.

    Dashes in flag names become underscores. For trainings `--data DIR` becomes `--data.path DIR`, and so do the other
    flags of SHORT; several `--data` become one that names all; `--start_from PATH` brings settings of its model; names
    of presets become paths, and `--config` moves to the front, so that flags override settings files wherever they
    stand. Where neither a file nor `--start_from` describes a model, the preset of the family comes first.

    Raises:
        TrainError: when a file of settings, or a value for a group of settings, is not fit for the parser; or the run
            folder is given twice.
    """
    first = words[0].partition("=")[0].removeprefix("--").replace("-", "_") if words else ""
    if words and words[0].startswith("--") and first in ADVICE:  # the command is missing, or comes later
        raise TrainError(f"no flag --{first}. {ADVICE[first]}")
    result: list[str] = []
    training = bool(words) and words[0] in RUNS
    groups = names_of(RUNS[words[0]]) if training else {}
    files: list[str] = []
    in_files: dict[str, str] = {}
    has_model = False
    places: list[str] = []
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if not word.startswith("--"):
            result.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if training and name == "run_dir" and last_value(result, "--run_dir"):
            # For other settings the last value counts; here the user means both folders.
            raise TrainError("--run-dir is given twice; pass it once")
        if name in ("data", "data.path") and (value or (not equals and rest and not rest[0].startswith("--"))):
            places.append(value or rest.popleft())
        elif training and name == "config" and (file := value if equals or not rest else rest.popleft()):
            path = settings_file(file)
            content = check_file(path, f"--config {file}", RUNS[words[0]])
            in_files |= plain_values(content)
            has_model |= describes_model(content)
            files += ["--config", str(path)]
        elif training and groups.get(name) and name not in SHORT:
            value = value if equals or not rest else rest.popleft()
            check_group(name, value, RUNS[words[0]])
            result.append(f"--{name}={value}")
        else:
            result.append(f"--{SHORT.get(name, name) if training else name}{equals}{value}")
    source = last_value(result, "--start_from.path") or in_files.get("start_from.path", "")
    run_dir = last_value(result, "--run_dir") or in_files.get("run_dir", "")
    first = ""
    if training and source:
        first = start_settings(source, words[0], run_dir)
    elif training and not has_model:
        first = default_preset(words[0], run_dir)
    data = [f"--{SHORT['data'] if training else 'data'}", join_places(places)] if places else []
    return [*result[:1], *(["--config", first] if first else []), *files, *result[1:], *data]


def plain_values(settings: dict[Any, Any]) -> dict[str, str]:
    """The texts among settings as YAML has them, by dotted keys."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, str):
            found[f"{key}"] = value
        elif isinstance(value, dict):
            found |= {f"{key}.{name}": text for name, text in plain_values(value).items()}
    return found


def last_value(words: list[str], flag: str) -> str:
    """The value of the last flag of that name; empty when there is none."""
    value = ""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == flag:
            value = after
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def make_parser(words: list[str] | None = None) -> Overview:
    """A parser with a subcommand for each family in RUNS and for each tool in TOOLS.

    With the words of a command line, subcommands that are not among them have no arguments: those of four trainings
    take longer to set up than most tools take to run.
    """
    parser = Overview(
        groups_of_commands(),
        examples_of(""),
        exit_on_error=False,
        formatter_class=HelpFormatter,
        prog="python -m train",
        description="Train audio autoencoders and inspect the results.",
    )
    for family, run in RUNS.items():
        parser.add_command(family, training_parser(family, run, words is None or family in words))
    for name, tool in TOOLS.items():
        command = command_parser(name, tool.about, tool.usage)
        if words is None or name in words:
            tool.add_arguments(command)
        parser.add_command(name, command)
    return parser


def command_parser(name: str, about: str, usage: str) -> ArgumentParser:
    """The parser of a subcommand with usage and examples, without arguments."""
    return ArgumentParser(
        exit_on_error=False,
        formatter_class=HelpFormatter,
        description=about,
        usage=f"python -m train {name} {usage}",
        epilog=examples_of(name),
    )


def training_parser(family: str, run: type[RunConfig], whole: bool) -> ArgumentParser:
    """The parser of a training; its arguments are the fields of `run`. It has none unless it is `whole`."""
    about = (run.__doc__ or "").strip().splitlines()[0]
    parser = command_parser(family, about, "--data DIR --run-dir DIR [--config FILE.yaml] [--KEY VALUE ...]")
    if not whole:
        return parser
    parser.epilog = examples_of(family) + TRAINING_EPILOG
    parser.add_argument(
        "--config", action="config", help="A YAML file of settings, or the name of a preset; flags override it."
    )
    parser.add_class_arguments(run, as_group=True, skip={*run.unused})
    for group in (parser.groups or {}).values():
        if group.title == about.removesuffix("."):
            group.title = "The run"
    for action in parser._actions:
        if action.dest in SHORT_HELP:  # jsonargparse would take them for files of settings
            action.help, action.metavar = SHORT_HELP[action.dest]
    return parser


def parse(words: list[str]) -> tuple[str, Any]:
    """The subcommand and its settings: a RunConfig for a family, a Verification, else a namespace.

    Raises:
        TrainError: when a flag, key or value is wrong; one line that suggests the nearest valid one.
    """
    if words[:1] == ["verify-resume"] and words[1:2] and words[1] in RUNS and not {"-h", "--help"} & {*words}:
        # The flags are those of a training, which checks them.
        _, config = parse([*words[1:], "--run-dir", f"{os.devnull}/verify-resume"])  # there cannot be a run
        return "verify-resume", Verification(config, words[1:])
    parser = make_parser(words)
    try:
        check_numbers(words)
        settings = parser.parse_args([without_bytes(word) for word in normalised(words)])
        for name, value in settings.items():
            settings[name] = with_bytes(value)
        command = settings.subcommand
        if command in RUNS:
            check_values(settings[command].get, RUNS[command])
            fields = parser.instantiate(settings)[command]
            names = [field.name for field in dataclasses.fields(RUNS[command]) if field.name in fields]
            return command, RUNS[command](**{name: fields[name] for name in names})
    except argparse.ArgumentError as error:
        command = next((word for word in words if word in parser.commands), "")
        told = explain(str(error), command, flags_of(command, parser), [*parser.commands])
        raise TrainError(shortened(told) + ("" if told.startswith("--") else about_preset(words))) from None
    except ValueError as error:  # a config that refuses its own values
        raise TrainError(shortened(str(error)) + about_preset(words)) from None
    return command, settings[command]


def about_preset(words: list[str]) -> str:
    """What an error of a training adds if flags of the command change the model of the family's preset."""
    names = [word[2:].replace("-", "_").partition("=")[0] for word in words if word.startswith("--")]
    own = any(name.startswith(("model.", "weights.")) for name in names)
    if not words or words[0] not in presets() or not own or {"config", "start_from", "start_from.path"} & {*names}:
        return ""
    return f" (the flags change the preset {words[0]}; for a model of another kind pass --config PRESET or FILE)"


def flags_of(command: str, parser: Overview) -> list[str]:
    """Names of a subcommand's flags without the dashes in front; for trainings the dotted names of all settings."""
    if command in RUNS:
        return [*names_of(RUNS[command])]
    return flags_of_parser(parser.commands[command]) if command else []
