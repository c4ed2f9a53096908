"""The parser's error messages as one line in plain words, with the nearest valid flag, key or command.

jsonargparse raises all errors as one class, so the cases are distinguished by their English text. PHRASES holds each
text; tests/train/cli/test_jsonargparse.py provokes every one and fails when jsonargparse changes it.
"""

import difflib
import re
from collections.abc import Sequence

from train.cli.help_text import plain_type
from train.config import RUNS

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
    "type": re.compile(r"Expected a (.*?)\. Got value: (.*)"),
}
RESUME = "Run the same command with the same --run-dir to resume a run"
FRESH = f"To start a new run from other weights, use --start_from PATH. {RESUME}."
# Flags of other programs, with a sentence on what this program offers instead.
ADVICE = {
    **dict.fromkeys(("resume", "resume_from", "resume_from_checkpoint"), f"{RESUME}."),
    **dict.fromkeys(("init", "init_from", "pretrained", "from_pretrained", "checkpoint", "ckpt", "finetune"), FRESH),
    **dict.fromkeys(("load", "load_from", "restore", "restore_from"), FRESH),
}
MIN_SIMILARITY = 0.65


def shortened(message: str) -> str:
    """A message without the rest of values that are longer than a line."""
    message = re.sub(r"\S{200,}", lambda long: f"{long[0][:80]}...", message)
    return message if len(message) <= LONGEST else f"{message[:LONGEST]} ..."


def explain(message: str, command: str, flags: Sequence[str], commands: Sequence[str]) -> str:
    """One line that names the wrong word and what is valid.

    Args:
        message: The parser's message.
        command: The subcommand; empty when there is none of that name.
        flags: Names of the subcommand's flags without dashes in front; dotted names for trainings.
        commands: Names of all subcommands.
    """
    message = re.sub(r"\s+", " ", message)
    see = f"see: python -m train {command} --help".replace("  ", " ")
    if found := PHRASES["choice"].match(message):
        return f"{flag_of(found[1], command)}: {found[2]} is none of {found[3]}".replace("'", "")
    if found := PHRASES["command"].match(message):
        return f"no command '{found[1]}'; {suggestion(found[1], commands) or see}"
    if found := PHRASES["required"].match(message):
        names = [name.rpartition(f"{command}.")[2] for name in found[1].split(", ")]
        given = [name if name.startswith("-") else flag_of(name, command) for name in names]
        return f"missing: {', '.join(given)}; {see}"
    if found := PHRASES["no value"].match(message):
        return f"{found[1]}: the value is missing; {see}"
    if found := PHRASES["value"].match(message):
        return value_problem(found[1], found[2])
    if found := PHRASES["flag"].match(message):
        name = found[1]
        if command in RUNS and name in ADVICE:
            return f"no flag --{name}. {ADVICE[name]}"
        return f"{message}; {suggestion(name, flags, '--') or see}"
    return message


def flag_of(name: str, command: str) -> str:
    """A required setting as a user writes it."""
    name = name.removeprefix(f"{command}.")
    return {"data.path": "--data", "run_dir": "--run-dir" if command in RUNS else "RUN_DIR"}.get(
        name, name.upper() if name in ("run_dirs", "family") or command == "encode" else f"--{name}"
    )


def value_problem(key: str, problem: str) -> str:
    """One line on a value that a setting does not accept."""
    if found := PHRASES["restriction"].match(problem) or PHRASES["conversion"].match(problem):
        return f"--{key}: {found[2]} is not {plain_type(found[1])}"
    if found := PHRASES["literal"].match(problem):
        return f"--{key}: {found[2]} is none of {found[1]}".replace("'", "")
    if found := PHRASES["type"].match(problem):
        sets = key == "data.path" and found[2].startswith("[")
        remedy = "; write several data sets as one text: music/ + speech/:0.3" if sets else ""
        return f"--{key}: {found[2]} is not {plain_type(found[1])}{remedy}"
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
