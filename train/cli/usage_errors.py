"""The parser's complaints as one line in the words of the command line, with the nearest thing that there is."""

import difflib
import re
from collections.abc import Sequence

from train.config import RUNS

# What the parser says of a value, and what that means.
KINDS = {
    "PositiveInt": "a whole number from 1",
    "NonNegativeInt": "a whole number from 0",
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number from 0",
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'list'>": "a list such as [1,2]",
    "<class 'bool'>": "true or false",
}


def explain(message: str, command: str, flags: Sequence[str], commands: Sequence[str]) -> str:
    """One line that names the flag and what it takes.

    Args:
        message: The parser's.
        command: The subcommand that was meant; empty when there is none of that name.
        flags: What it has: dotted names for trainings.
        commands: All subcommands.
    """
    message = re.sub(r"\s+", " ", message)
    if found := re.match(r"argument (?!subcommand)(\S+): invalid choice: (\S+) \(choose from (.*)\)", message):
        return f"{flag_of(found[1], command)}: {found[2]} is none of {found[3]}".replace("'", "")
    if found := re.search(r"invalid choice: '([^']*)'.*choose from", message):
        return f"no command '{found[1]}'{nearest(found[1], commands, 'python -m train --help')}"
    if found := re.match(r"the following arguments are required: (.*)", message):
        names = [name.rpartition(f"{command}.")[2] for name in found[1].split(", ")]
        told = [name if name.startswith("-") else flag_of(name, command) for name in names]
        return f"missing: {', '.join(told)}; see: python -m train {command} --help".replace("  ", " ")
    if found := re.match(r"Parser key \"([^\"]+)\": (.*)", message):
        return value_complaint(found[1], found[2])
    if found := re.search(
        r"(?:unrecognized arguments: --|not accept option '|not accept nested key '|Key ')([\w.]+)", message
    ):
        others = [name for name in flags if name != found[1]]
        return f"{message}{nearest(found[1], others, f'python -m train {command} --help')}"
    return message


def flag_of(name: str, command: str) -> str:
    """A required setting as people give it."""
    name = name.removeprefix(f"{command}.")
    return {"data.path": "--data", "run_dir": "--run-dir" if command in RUNS else "RUN_DIR"}.get(
        name, name.upper() if name in ("run_dirs", "family") else f"--{name}"
    )


def value_complaint(key: str, problem: str) -> str:
    """What is wrong with the value of a setting."""
    if found := re.match(r"Not of type (\w+): (.*?) does not conform to restriction", problem):
        return f"--{key}: {found[2]} is not {KINDS.get(found[1], found[1])}"
    if found := re.match(r"Not of type (\w+): .*?: '?([^']*)'?$", problem):
        return f"--{key}: {found[2]} is not {KINDS.get(found[1], found[1])}"
    if found := re.match(r"Expected a (.*?)\. Got value: (.*)", problem):
        if choices := re.match(r"typing\.Literal\[(.*)\]", found[1]):
            return f"--{key}: {found[2]} is none of {choices[1].replace(chr(39), '')}"
        return f"--{key}: {found[2]} is not {KINDS.get(found[1], found[1])}"
    return f"--{key}: {problem}"


def nearest(word: str, there: Sequence[str], otherwise: str) -> str:
    """The end of a complaint about a word that is unknown."""
    near = difflib.get_close_matches(word, there, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; see: {otherwise}"
