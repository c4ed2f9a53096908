"""The text of `--help`: groups of subcommands, line breaks of the examples, types in plain words."""

import argparse
import json
import re
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

import audiovae

# Names of types, as jsonargparse and Python print them, in plain words.
TYPES = {
    "PositiveInt": "a whole number from 1",
    "NonNegativeInt": "a whole number from 0",
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number from 0",
    "ClosedUnitInterval": "a number from 0 to 1",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "Path": "a path",
    "list": "a list such as [1,2]",
    "list[int]": "a list of whole numbers such as [1,2]",
    "list[str]": "a list of names such as [encoder]",
    "list[float]": "a list of numbers such as [0.5,1]",
    "tuple[float, float]": "two numbers such as [0.5,1]",
}
# For these the flag's own line shows the choices, or any text will do.
SELF_EXPLANATORY = ("bool", "str", "Literal[")
# How DefaultHelpFormatter prints a type and a default, in parentheses and separated by commas.
TYPE_MARK = "type: %(type)s"
DEFAULT_MARK = "default: %(default)s"
GENERIC_HELP = {
    "Path to a configuration file.": "A YAML file with the settings of this group.",
    "Print the configuration after applying": "Print all settings as YAML for --config, and exit.",
}


def plain_type(name: str) -> str:
    """The name of a type in plain words; the name itself where there are none."""
    name = name.removeprefix("<class '").removesuffix("'>").removesuffix(" | null")
    if found := re.fullmatch(r"tuple with (\d+) elements", name):
        return f"a list of {found[1]} values"
    return TYPES.get(name, name)


def _without(text: str, mark: str) -> str:
    """A help text without one of the marks in its parentheses."""
    return text.replace(f", {mark}", "").replace(f"{mark}, ", "").replace(f" ({mark})", "")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the examples and prints types in plain words.

    `_get_help_string` and `_get_type_str` are private names of argparse and jsonargparse, which offer no public ones;
    tests/train/cli/test_jsonargparse.py checks them.
    """

    def start_section(self, heading: str | None) -> None:
        """Starts a group; argparse adds a colon to its heading, which must not be the second one."""
        head, colon, rest = (heading or "").partition(": ")
        super().start_section(f"{head} ({rest})" if colon else heading)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = super()._get_help_string(action)
        for generic, plain in GENERIC_HELP.items():
            if text.startswith(generic):
                return plain
        name = self._get_type_str(action) or ""
        if name.startswith(SELF_EXPLANATORY):
            text = _without(text, TYPE_MARK)
        if action.default is None:
            text = _without(text, DEFAULT_MARK)
        if isinstance(action.default, bool | tuple) or action.default == "":
            text = text.replace("%(default)s", json.dumps(action.default))
        return text.replace(TYPE_MARK, plain_type(name))


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
