"""The text of `--help` of the trainings and tools: groups of subcommands."""

import argparse
from typing import Any

from jsonargparse import ArgumentParser

import audiovae


class Overview(ArgumentParser):
    """A parser whose help lists its subcommands in groups, followed by examples.

    Attributes:
        commands: The parser of each subcommand.
        groups_of_commands: Names of subcommands under each heading.
        examples: Lines at the end of the help.
    """

    def __init__(self, groups_of_commands: dict[str, list[str]], examples: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: dict[str, ArgumentParser] = {}
        self.groups_of_commands, self.examples = groups_of_commands, examples
        self.add_argument("--version", action="version", version=f"{audiovae.DISTRIBUTION} {audiovae.__version__}")
        self._subcommands = self.add_subcommands()

    def add_command(self, name: str, parser: ArgumentParser) -> None:
        """Adds a subcommand."""
        self.commands[name] = parser
        self._subcommands.add_subcommand(name, parser, help=parser.description)

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """Returns usage, the subcommands in their groups, and examples."""
        width = max(map(len, self.commands))
        lines = ["usage: python -m train COMMAND ...", "", self.description or "", ""]
        for group, names in self.groups_of_commands.items():
            lines += [f"{group}:", *(f"  {name:{width}}  {self.commands[name].description}" for name in names), ""]
        return "\n".join([*lines, self.examples])
