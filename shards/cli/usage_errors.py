"""The parser's error messages as one line in plain words, with the nearest valid flag, key or command.

jsonargparse raises all errors as one class, so the cases are distinguished by their English text. PHRASES holds each
text; tests/train/cli/test_jsonargparse.py provokes every one and fails when jsonargparse changes it.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shards.cli.help_text import plain_type

LONGEST = 2000  # characters of a message
PHRASES = {
    "choice": re.compile(r"argument (?!subcommand)(\S+): invalid choice: (\S+) \(choose from (.*)\)"),
    "command": re.compile(r"argument subcommand: invalid choice: '([^']*)'"),
    "required": re.compile(r"the following arguments are required: (.*)"),
    "no value": re.compile(r"argument (\S+): expected one argument"),
    "value": re.compile(r"Parser key \"([^\"]+)\": (.*)"),
    "flag": re.compile(r"unrecognized arguments: --([\w.-]+)"),
    # What follows the key in "value".
    "restriction": re.compile(r"Not of type (\w+): (.*?) does not conform to restriction"),
    "conversion": re.compile(r"Not of type (\w+): .*?: '?([^']*)'?$"),
    "literal": re.compile(r"Expected a typing\.Literal\[(.*)\]\. Got value: (.*)"),
    "type": re.compile(r"Expected a (.*?)\. Got value: ?(.*)"),
}
MIN_SIMILARITY = 0.65
# An integer that no float holds, also in hexadecimal digits.
DIGITS = re.compile(r"[\da-fA-F_]{309}")


def parsed(parser: Any, words: Sequence[str], commands: Mapping[str, argparse.ArgumentParser], program: str) -> Any:
    """Parses a command line with subcommands.

    Args:
        parser: The parser, with `exit_on_error=False`.
        words: The command line.
        commands: The parser of each subcommand, by its name.
        program: How the program is called, such as `python -m shards`.

    Raises:
        ValueError: one line that says what is wrong.
    """
    check_numbers(words)
    try:
        return parser.parse_args(words)
    except argparse.ArgumentError as error:
        command = next((word for word in words if word in commands), "")
        flags = flags_of(commands[command]) if command else []
        raise ValueError(shortened(explain(str(error), program, command, flags, [*commands]))) from None


def check_numbers(words: Sequence[str]) -> None:
    """Raises ValueError for a number that no float can hold, which parsers convert with an error of their own."""
    for flag, word in zip(["", *words], words, strict=False):
        if DIGITS.search(word):
            name = f"{flag} " if flag.startswith("--") else ""
            raise ValueError(f"{name}{shortened(word)}: a number cannot be larger than {sys.float_info.max:.4g}")


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """Names of a parser's flags without the dashes in front."""
    return [flag[2:] for action in parser._actions for flag in action.option_strings if flag.startswith("--")]


def shortened(message: str) -> str:
    """A message without the rest of values that are longer than a line."""
    message = re.sub(r"\S{200,}", lambda long: f"{long[0][:80]}...", message)
    return message if len(message) <= LONGEST else f"{message[:LONGEST]} ..."


def name_of(setting: str, command: str) -> str:
    """A required argument as the usage of its command writes it."""
    return setting.removeprefix(f"{command}.")


def explain(
    message: str,
    program: str,
    command: str,
    flags: Sequence[str],
    commands: Sequence[str],
    written: Callable[[str, str], str] = name_of,
) -> str:
    """One line that names the wrong word and what is valid.

    Args:
        message: The parser's message.
        program: How the program is called, such as `python -m shards`.
        command: The subcommand; empty when there is none of that name.
        flags: Names of the subcommand's flags without dashes in front; dotted names for trainings.
        commands: Names of all subcommands.
        written: How a user writes a required argument, from its name and the subcommand.
    """
    message = re.sub(r"\s+", " ", message)
    see = f"see: {program} {command} --help".replace("  ", " ")
    if found := PHRASES["choice"].match(message):
        return f"{written(found[1], command)}: {found[2]} is none of {found[3]}".replace("'", "")
    if found := PHRASES["command"].match(message):
        return f"no command '{found[1]}'; {suggestion(found[1], commands) or see}"
    if found := PHRASES["required"].match(message):
        names = [name.rpartition(f"{command}.")[2] for name in found[1].split(", ")]
        given = [name if name.startswith("-") else written(name, command) for name in names]
        return f"missing: {', '.join(given)}; {see}"
    if found := PHRASES["no value"].match(message):
        return f"{found[1]}: the value is missing; {see}"
    if found := PHRASES["value"].match(message):
        return value_problem(found[1], found[2])
    if found := PHRASES["flag"].match(message):
        return f"{message}; {suggestion(found[1], flags, '--') or see}"
    return message


def _shown(value: str) -> str:
    return value or "an empty text"


def value_problem(key: str, problem: str) -> str:
    """One line on a value that a setting does not accept."""
    if found := PHRASES["restriction"].match(problem) or PHRASES["conversion"].match(problem):
        return f"--{key}: {_shown(found[2])} is not {plain_type(found[1])}"
    if found := PHRASES["literal"].match(problem):
        return f"--{key}: {found[2]} is none of {found[1]}".replace("'", "")
    if found := PHRASES["type"].match(problem):
        return f"--{key}: {_shown(found[2])} is not {plain_type(found[1])}"
    return f"--{key}: {problem}"


def suggestion(word: str, valid: Sequence[str], prefix: str = "") -> str:
    """'did you mean ...?' with the most similar valid word; empty when none is similar enough.

    The last part of a dotted name is compared too: `steps` is similar to `optim.steps`.
    """

    def similarity(other: str) -> tuple[float, float]:
        whole, last = (difflib.SequenceMatcher(None, word, part).ratio() for part in (other, other.split(".")[-1]))
        return max(whole, 0.95 * last), whole

    best = max((other for other in valid if other != word), key=similarity, default="")
    return f"did you mean {prefix}{best}?" if best and similarity(best)[0] >= MIN_SIMILARITY else ""
