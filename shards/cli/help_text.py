"""The text of `--help`: line breaks of the examples, types in plain words."""

import argparse
import json
import re

from jsonargparse import DefaultHelpFormatter

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


def usage_of(command: str, parser: argparse.ArgumentParser) -> str:
    """The usage of a command in one line: its positional arguments, and that it has options."""
    names = (f"{a.dest} [...]" if a.nargs == "+" else a.dest for a in parser._actions if not a.option_strings)
    return " ".join([command, "[options]", *names])


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
