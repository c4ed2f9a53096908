"""What the command lines rely on in argparse and jsonargparse although they do not promise it.

A failure here means that an upgrade changed a private name or an English phrase: adapt the file that the message names.
"""

import argparse

import jsonargparse
import pytest

from shards.cli.help_text import DEFAULT_MARK, GENERIC_HELP, TYPE_MARK
from shards.cli.usage_errors import PHRASES
from train.cli.parser import make_parser, normalised

NEEDED = ["--data", "x", "--run-dir", "y"]


def raw_message(words: list[str]) -> str:
    """The parser's own message for a wrong command line."""
    with pytest.raises(argparse.ArgumentError) as caught:
        make_parser().parse_args(normalised(words))
    return " ".join(str(caught.value).split())


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("choice", ["verify-resume", "gan"]),
        ("command", ["evalute", "x"]),
        ("required", ["vae"]),
        ("no value", ["vae", *NEEDED, "--seed"]),
        ("value", ["vae", *NEEDED, "--seed", "x"]),
        ("flag", ["vae", *NEEDED, "--nonsense", "3"]),
        ("restriction", ["vae", *NEEDED, "--seed", "-1"]),
        ("conversion", ["vae", *NEEDED, "--seed", "x"]),
        ("literal", ["vae", *NEEDED, "--tracking.wandb", "on"]),
        ("type", ["vae", *NEEDED, "--compile", "x"]),
    ],
)
def test_phrases_of_error_messages(phrase, words):
    message = raw_message(words)
    if phrase in ("restriction", "conversion", "literal", "type"):
        value = PHRASES["value"].match(message)
        assert value, f"jsonargparse {jsonargparse.__version__} says {message!r}: adapt PHRASES['value']"
        message = value[2]
    assert PHRASES[phrase].match(message), (
        f"jsonargparse {jsonargparse.__version__} says {message!r}: "
        f"adapt PHRASES[{phrase!r}] in shards/cli/usage_errors.py"
    )


def test_every_phrase_is_checked():
    (mark,) = (mark for mark in test_phrases_of_error_messages.pytestmark if mark.name == "parametrize")
    assert {phrase for phrase, _ in mark.args[1]} == PHRASES.keys()


@pytest.mark.parametrize(
    ("owner", "name", "user"),
    [
        (jsonargparse.DefaultHelpFormatter, "_get_help_string", "shards/cli/help_text.py"),
        (jsonargparse.DefaultHelpFormatter, "_get_type_str", "shards/cli/help_text.py"),
        (jsonargparse.ArgumentParser(), "_actions", "shards/cli/usage_errors.py"),
    ],
)
def test_private_names(owner, name, user):
    assert hasattr(owner, name), f"jsonargparse {jsonargparse.__version__} has no {name}: adapt {user}"


def test_marks_in_help_texts():
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--number", type=int, default=1, help="A number.")
    parser.add_argument("--file", action="config")
    help_of = {action.dest: action for action in parser._actions}
    text = jsonargparse.DefaultHelpFormatter("x")._get_help_string(help_of["number"])
    version, place = jsonargparse.__version__, "shards/cli/help_text.py"
    advice = f"jsonargparse {version} prints types as {text!r}: adapt TYPE_MARK in {place}"
    assert text == f"A number. ({TYPE_MARK}, {DEFAULT_MARK})", advice
    printed = " ".join(parser.format_help().split())
    for phrase in GENERIC_HELP:
        assert phrase in printed, f"jsonargparse {version}: adapt GENERIC_HELP in {place}"
