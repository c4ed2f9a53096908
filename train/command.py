"""The command line of `python -m train`: parsing only."""

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from train.config import RUNS, RunConfig

EXAMPLES = """examples:
  python -m train hvae --data shards/ --run-dir runs/first --config train/configs/hvae_tiny.yaml
  accelerate launch --config_file accelerate_config.yaml -m train hvae --data shards/ --run-dir runs/first
  python -m train hvae --data shards/ --run-dir runs/first --optim.lr 5e-4 --print_config
  python -m train evaluate runs/first
"""


def normalised(words: list[str]) -> list[str]:
    """Flags as the parser knows them: dashes are underscores, and in training `--data DIR` is the shards' path."""
    result = []
    training = bool(words) and words[0] in RUNS
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            word = f"--{'data.path' if name == 'data' and training else name}{equals}{value}"
        result.append(word)
    return result


def make_parser() -> ArgumentParser:
    """A subcommand for each family and for each tool."""
    parser = ArgumentParser(
        prog="python -m train",
        description="Train audio autoencoders and look at the results.",
        epilog=EXAMPLES,
    )
    commands = parser.add_subcommands()
    for family, run in RUNS.items():
        one = ArgumentParser(description=(run.__doc__ or "").strip().splitlines()[0])
        one.add_argument("--config", action="config", help="A YAML file of settings; flags after it override it.")
        one.add_class_arguments(run, as_group=True)
        commands.add_subcommand(family, one, help=one.description)
    evaluate = ArgumentParser(description="Measure a run's model on held-out recordings and write a report.")
    evaluate.add_argument("run_dir", type=Path, help="The folder that was --run-dir in training.")
    evaluate.add_argument("--data", type=Path | None, help="Shards to measure on, if not the run's own.")
    evaluate.add_argument("--split", default="valid", help="Which split to measure on.")
    evaluate.add_argument("--device", default="auto", help="cpu, cuda, or auto.")
    evaluate.add_argument("--examples", type=int, default=3, help="Best, median and worst examples of each kind.")
    commands.add_subcommand("evaluate", evaluate, help=evaluate.description)
    return parser


def parse(words: list[str]) -> tuple[str, Any]:
    """The subcommand and its settings: a RunConfig for a family, else a namespace."""
    parser = make_parser()
    settings = parser.parse_args(normalised(words))
    command = settings.subcommand
    if command in RUNS:
        objects = parser.instantiate_classes(settings)[command]
        fields = {name: value for name, value in objects.as_dict().items() if name != "config"}
        fields = {name: objects[name] for name in fields}
        run: RunConfig = RUNS[command](**fields)
        return command, run
    return command, settings[command]
