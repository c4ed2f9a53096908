"""Use a trained model: reconstruct, stream, encode, decode, interpolate or sample audio, or export the model."""

import difflib
import inspect
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from audiovae import DISTRIBUTION, __version__
from audiovae.commands import COMMANDS
from audiovae.errors import ModelError, ModelWarning
from shards.text import given_twice, printable, with_bytes, without_bytes

MIN_SIMILARITY = 0.65  # of a suggestion
# Help of `reconstruct`, which takes any number of recordings.
INPUT = "Recordings in any format that libsndfile or FFmpeg read, at any sample rate and of any length."
OUTPUT = (
    "For one recording: the WAV file to write, at the model's rate. For several recordings, or if the name ends "
    "in / or is a folder: the folder to write NAME.wav into for each recording; it is created if it does not exist."
)


def make_parser() -> ArgumentParser:
    """Builds the parser. The arguments of each command are those of its function."""
    last = "version: python -m audiovae --version"
    parser = ArgumentParser(prog="python -m audiovae", description=__doc__, epilog=last, allow_abbrev=True)
    commands = parser.add_subcommands()
    for name, function in COMMANDS.items():
        summary = (inspect.getdoc(function) or "").splitlines()[0]
        command = ArgumentParser(description=summary, allow_abbrev=True)
        many: set[str | int] = {"input", "output"} if name == "reconstruct" else set()
        command.add_function_arguments(function, as_group=False, as_positional=True, skip=many)
        if many:
            command.add_argument("input", nargs="+", type=Path, help=INPUT)
            command.add_argument("output", type=str, help=OUTPUT)
        commands.add_subcommand(name, command, help=summary)
    return parser


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser, words = make_parser(), sys.argv[1:]
    if not words:
        parser.print_help(sys.stderr)
        print("\nerror: no command given", file=sys.stderr)
        return 2
    if words == ["--version"]:
        print(f"{DISTRIBUTION} {__version__}")
        return 0
    if flag := given_twice(words):
        print(printable(f"error: {flag} is given twice; pass it once"), file=sys.stderr)
        return 2
    try:
        chosen = parser.parse_args(flags_last([without_bytes(word) for word in words]))
    except SystemExit as end:
        if end.code and (meant := nearest(words)):
            print(f"did you mean {meant}?", file=sys.stderr)
        raise
    with warnings.catch_warnings():
        warnings.simplefilter("always", ModelWarning)
        warnings.showwarning = _show(warnings.showwarning)
        try:
            given = {name: with_bytes(value) for name, value in chosen[chosen.subcommand].items()}
            COMMANDS[chosen.subcommand](**given)
            sys.stdout.flush()
        except ModelError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:  # the reader of the pipe, such as head, has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 1
        except OSError as error:  # file errors are ModelErrors, so this is standard output
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            print(f"error: cannot write to standard output ({error.strerror})", file=sys.stderr)
            return 1
    return 0


def flags_last(words: list[str]) -> list[str]:
    """Moves flags and their values behind the positional arguments, because argparse wants those in one group."""
    rest: list[str] = []
    flags: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            return [*rest, *flags, word, *left]
        if not word.startswith("--"):
            rest.append(word)
            continue
        flags.append(word)
        if "=" not in word and word != "--help":
            flags += [value for value in [next(left, None)] if value is not None]
    return rest + flags


def nearest(words: list[str]) -> str:
    """The command, or else the flag, that is closest to a misspelt one; empty if none is close."""
    command = next((word for word in words if not word.startswith("-")), "")
    if command not in COMMANDS:
        return "".join(difflib.get_close_matches(command, COMMANDS, 1))
    known = [
        "--help",
        *(
            f"--{name}"
            for name, about in inspect.signature(COMMANDS[command]).parameters.items()
            if about.default is not about.empty
        ),
    ]
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            # Without the dashes, which all flags share: they would make any short word similar.
            names = difflib.get_close_matches(flag[2:], [name[2:] for name in known], 1, MIN_SIMILARITY)
            return "".join(f"--{name}" for name in names)
    return ""


def _show(usual: Any) -> Any:
    """A `warnings.showwarning` that prints a ModelWarning as one line and passes other warnings to `usual`."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, ModelWarning):
            print(f"warning: {printable(message)}", file=sys.stderr, flush=True)
        else:
            usual(message, category, *where, **more)

    return show


if __name__ == "__main__":
    sys.exit(main())
