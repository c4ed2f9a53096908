"""Use a trained model: reconstruct, stream, encode, decode, interpolate or sample audio, or export the model."""

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
from shards.cli.help_text import HelpFormatter, usage_of
from shards.cli.usage_errors import parsed
from shards.text import given_twice, printable, with_bytes, without_bytes

# Help of `reconstruct`, which takes any number of recordings.
INPUT = "Recordings in any format that libsndfile or FFmpeg read, at any sample rate and of any length."
OUTPUT = (
    "For one recording: the WAV file to write, at the model's rate. For several recordings, or if the name ends "
    "in / or is a folder: the folder to write NAME.wav into for each recording; it is created if it does not exist."
)


def make_parser() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    """Builds the parser and the parsers of its commands. The arguments of a command are those of its function."""
    last = "version: python -m audiovae --version"
    looks: dict[str, Any] = {"formatter_class": HelpFormatter, "allow_abbrev": True, "exit_on_error": False}
    parser = ArgumentParser(prog="python -m audiovae", description=__doc__, epilog=last, **looks)
    commands, parsers = parser.add_subcommands(), {}
    for name, function in COMMANDS.items():
        summary = (inspect.getdoc(function) or "").splitlines()[0]
        command = ArgumentParser(description=summary, **looks)
        many: set[str | int] = {"input", "output"} if name == "reconstruct" else set()
        command.add_function_arguments(function, as_group=False, as_positional=True, skip=many)
        if many:
            command.add_argument("input", nargs="+", type=Path, help=INPUT)
            command.add_argument("output", type=str, help=OUTPUT)
        command.usage = usage_of(f"python -m audiovae {name}", command)
        commands.add_subcommand(name, command, help=summary)
        parsers[name] = command
    return parser, parsers


def main() -> int:
    """Runs the command line; returns the exit code."""
    os.environ.setdefault("MKL_CBWR", "AUTO")  # see `train.__main__.run`
    (parser, commands), words = make_parser(), sys.argv[1:]
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
        given = flags_last([without_bytes(word) for word in words])
        chosen = parsed(parser, given, commands, "python -m audiovae")
    except ValueError as error:
        print(printable(f"error: {with_bytes(str(error))}"), file=sys.stderr)
        return 2
    with warnings.catch_warnings():
        warnings.simplefilter("always", ModelWarning)
        warnings.showwarning = _show(warnings.showwarning)
        try:
            values = {name: with_bytes(value) for name, value in chosen[chosen.subcommand].items()}
            COMMANDS[chosen.subcommand](**values)
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
        except OSError as error:
            if error.filename is not None:  # of a look at a path; a name that is too long, for example
                print(printable(f"error: {error.filename}: {error.strerror}"), file=sys.stderr)
                return 1
            # Other file errors are ModelErrors, so this is standard output.
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
