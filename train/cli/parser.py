"""The command line of `python -m train`: parsing only."""

import argparse
import dataclasses
import typing
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter
from jsonargparse.typing import PositiveInt

import audiovae
from train.cli.presets import settings_file
from train.cli.usage_errors import explain
from train.config import RUNS, RunConfig
from train.errors import TrainError

# Subcommands under headings, as `python -m train` lists them.
GROUPS = {
    "train, or go on with a run": ("vae", "hvae", "vqvae"),
    "look at a run": ("evaluate", "compare", "status", "which-samples"),
    "look after a run": ("sync", "verify-resume"),
}
EXAMPLES = {
    "": """examples:
  python -m train hvae --data shards/ --run-dir runs/first --config train/configs/hvae_tiny.yaml
  accelerate launch --config_file accelerate_config.yaml -m train hvae --data shards/ --run-dir runs/first
  python -m train evaluate runs/first
  python -m train COMMAND --help
  python -m train --version
""",
    "vae": """examples:
  python -m train vae --data shards/ --run-dir runs/first --config train/configs/vae_tiny.yaml
  python -m train vae --data shards/ --run-dir runs/first --weights.kl 0.05 --kl_warmup.shape cosine
""",
    "hvae": """examples:
  python -m train hvae --data shards/ --run-dir runs/first --config train/configs/hvae_tiny.yaml
  python -m train hvae --data shards/ --run-dir runs/first --weights.kl [0.02,0.02,0.02,0.01]
""",
    "vqvae": """examples:
  python -m train vqvae --data shards/ --run-dir runs/first --config train/configs/vqvae_tiny.yaml
  python -m train vqvae --data shards/ --run-dir runs/first --model.quantizer.size 512
""",
    "evaluate": """examples:
  python -m train evaluate runs/first
  python -m train evaluate runs/first --data other-shards/ --split valid --out other-report
""",
    "compare": """examples:
  python -m train compare runs/first runs/second --out comparison
""",
    "status": """examples:
  python -m train status runs/first
  python -m train status runs/first --json
""",
    "which-samples": """examples:
  python -m train which-samples runs/first --step 1200
  python -m train which-samples runs/first --step 1200 --wav chunks/
""",
    "sync": """examples:
  python -m train sync runs/first
  python -m train sync runs/first --prepare
""",
    "verify-resume": """examples:
  python -m train verify-resume vae --data shards/ --config train/configs/vae_tiny.yaml --optim.steps 20
""",
}
# What every family's help ends with.
OF_A_RUN = """
the same command goes on with a run that was stopped; touch RUN_DIR/STOP or Ctrl-C to save and stop
all settings as a YAML file for --config: add --print_config; explained: docs/configuration.md
"""


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the examples."""


class Overview(ArgumentParser):
    """A parser whose help lists its subcommands in groups."""

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """Usage, what there is, examples."""
        assert self._subcommands_action is not None
        abouts = {choice.dest: choice.help for choice in self._subcommands_action._choices_actions}
        width = max(map(len, abouts))
        lines = ["usage: python -m train COMMAND ...", "", self.description or "", ""]
        for group, names in GROUPS.items():
            lines += [f"{group}:", *(f"  {name:{width}}  {abouts[name]}" for name in names), ""]
        return "\n".join([*lines, EXAMPLES[""]])


@dataclasses.dataclass
class Verification:
    """A training to be verified: its settings, and its words on the command line, the family first."""

    config: RunConfig
    words: list[str]


def normalised(words: list[str]) -> list[str]:
    """Flags as the parser knows them.

    Dashes are underscores. In training `--data DIR` is the shards' path, and files of settings come first, by their
    paths: what a person gives as a flag overrides them, wherever it stands.
    """
    result: list[str] = []
    training = bool(words) and words[0] in RUNS
    files: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            result.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if training and name == "config" and (file := value if equals else next(rest, "")):
            files += ["--config", str(settings_file(file))]
        else:
            result.append(f"--{'data.path' if name == 'data' and training else name}{equals}{value}")
    return [*result[:1], *files, *result[1:]]


def tool(name: str, about: str, usage: str, more: str = "") -> ArgumentParser:
    """The parser of a subcommand, with its examples."""
    return ArgumentParser(
        exit_on_error=False,
        formatter_class=HelpFormatter,
        description=f"{about} {more}".strip(),
        usage=f"python -m train {name} {usage}",
        epilog=EXAMPLES[name],
    )


def make_parser() -> Overview:
    """A subcommand for each family and for each tool."""
    parser = Overview(
        exit_on_error=False,
        formatter_class=HelpFormatter,  # the subcommands' too
        prog="python -m train",
        description="Train audio autoencoders and look at the results.",
    )
    parser.add_argument("--version", action="version", version=f"{audiovae.DISTRIBUTION} {audiovae.__version__}")
    commands = parser.add_subcommands()
    for family, run in RUNS.items():
        about = (run.__doc__ or "").strip().splitlines()[0]
        one = tool(family, about, "--data DIR --run-dir DIR [--config FILE.yaml] [--KEY VALUE ...]")
        one.epilog = EXAMPLES[family] + OF_A_RUN
        one.add_argument(
            "--config", action="config", help="A YAML file of settings, or a preset's name; flags override it."
        )
        one.add_class_arguments(run, as_group=True)
        for action in one._actions:
            if action.dest == "data":  # the parser would call it a file of settings
                action.help, action.metavar = "The folder of shards; short for --data.path.", "DIR"
        commands.add_subcommand(family, one, help=about)
    about = "Measure a run's model on held-out recordings and write a report."
    evaluate = tool(
        "evaluate", about, "RUN_DIR [--data DIR] [--split SPLIT] [--out DIR] [--device DEVICE] [--examples N]"
    )
    evaluate.add_argument("run_dir", type=Path, help="The folder that was --run-dir in training.")
    evaluate.add_argument("--data", type=str | None, help="Shards to measure on, if not the run's own.")
    evaluate.add_argument("--split", default="valid", help="Which split to measure on.")
    evaluate.add_argument("--out", type=Path | None, help="The folder to write to, if not RUN_DIR/report.")
    evaluate.add_argument("--device", default="auto", help="cpu, cuda, or auto.")
    evaluate.add_argument(
        "--examples", type=PositiveInt, default=3, help="Best, median and worst examples of each kind."
    )
    evaluate.add_argument("--speech", action="store_true", help="Add PESQ and STOI; needs the extra `speech`.")
    commands.add_subcommand("evaluate", evaluate, help=about)
    about = "Put evaluated runs beside each other on one page: figures, curves, the same chunks to hear."
    compare = tool("compare", about, "RUN_DIR RUN_DIR... [--out DIR]")
    compare.add_argument("run_dirs", type=Path, nargs="+", metavar="run_dir", help="Folders of two or more runs.")
    compare.add_argument("--out", type=Path, default=Path("comparison"), help="The folder to write the page to.")
    compare.add_argument("--data", type=str | None, help="Shards to hear chunks of, if not the first run's own.")
    compare.add_argument("--device", default="auto", help="cpu, cuda, or auto.")
    compare.add_argument("--examples", type=PositiveInt, default=2, help="Chunks of each kind to hear.")
    commands.add_subcommand("compare", compare, help=about)
    about = "Tell how a run stands: attempts, why each ended, steps lost, goodput, checkpoints."
    status = tool("status", about, "RUN_DIR [--json]")
    status.add_argument("run_dir", type=Path, help="The folder that was --run-dir in training.")
    status.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    commands.add_subcommand("status", status, help=about)
    about = "Upload the offline parts of a run to W&B as one run."
    sync = tool("sync", about, "RUN_DIR [--prepare]")
    sync.add_argument("run_dir", type=Path, help="The folder that was --run-dir in training.")
    sync.add_argument("--prepare", action="store_true", help="Only make the parts whole; upload nothing.")
    commands.add_subcommand("sync", sync, help=about)
    about = "Make a short run straight, and stopped and resumed, on other processes too, and compare."
    verify = tool(
        "verify-resume",
        about,
        "{vae,hvae,vqvae} --data DIR [--config FILE.yaml] [--KEY VALUE ...]",
        "What follows are the family and flags of a training, without --run-dir.",
    )
    verify.add_argument("family", choices=[*RUNS], help="The family to train.")
    commands.add_subcommand("verify-resume", verify, help=about)
    about = "Name the chunks that a step of a run was made of."
    which = tool("which-samples", about, "RUN_DIR --step STEP [--wav DIR] [--data DIR] [--json]")
    which.add_argument("run_dir", type=Path, help="The folder that was --run-dir in training.")
    which.add_argument("--step", type=PositiveInt, required=True, help="The step, as in metrics.jsonl: from 1.")
    which.add_argument("--wav", type=Path | None, help="A folder to write the chunks to as WAV files.")
    which.add_argument("--data", type=str | None, help="The run's shards, if they are in another place now.")
    which.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    commands.add_subcommand("which-samples", which, help=about)
    return parser


def parse(words: list[str]) -> tuple[str, Any]:
    """The subcommand and its settings: a RunConfig for a family, else a namespace.

    Raises:
        TrainError: for a flag, key or value that cannot be, with the nearest that can.
    """
    parser = make_parser()
    if words[:1] == ["verify-resume"] and words[1:2] and words[1] in RUNS and not {"-h", "--help"} & {*words}:
        # The flags are those of a training, which checks them.
        _, config = parse([*words[1:], "--run-dir", "verify-resume"])
        return "verify-resume", Verification(config, words[1:])
    try:
        settings = parser.parse_args(normalised(words))
        command = settings.subcommand
        if command in RUNS:
            fields = parser.instantiate(settings)[command]
            names = [field.name for field in dataclasses.fields(RUNS[command])]
            return command, RUNS[command](**{name: fields[name] for name in names})
    except argparse.ArgumentError as error:
        assert parser._subcommands_action is not None
        commands = parser._subcommands_action._name_parser_map
        command = next((word for word in words if word in commands), "")
        raise TrainError(explain(str(error), command, flags_of(command, commands), [*commands])) from None
    except ValueError as error:  # a config that refuses its own values
        raise TrainError(str(error)) from None
    return command, settings[command]


def flags_of(command: str, commands: dict[str, ArgumentParser]) -> list[str]:
    """What a subcommand has: for trainings all their settings."""
    if command in RUNS:
        return flat_names(RUNS[command])
    actions = commands[command]._actions if command else []
    return [flag for action in actions for flag in action.option_strings if flag.startswith("--")]


def flat_names(kind: type, prefix: str = "") -> list[str]:
    """The dotted names of a config's fields, nested ones included."""
    names = []
    types = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        names.append(f"{prefix}{field.name}")
        if dataclasses.is_dataclass(types[field.name]):
            names += flat_names(types[field.name], f"{prefix}{field.name}.")
    return names
