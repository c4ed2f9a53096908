"""Recordings -> tar shards for training."""

import inspect as introspection
import os
import signal
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from shards import DISTRIBUTION

_SWITCHES = {  # flags that take no value
    "strict": "Fail when any audio file had to be skipped, or is damaged or suspicious.",
    "dry_run": "Look at all files, print what the build would do, write nothing, and end.",
    "split_by_folder": "Take the splits from the folders train, valid and test in the audio folder.",
    "valid_within": "Hold out the end of each recording instead of whole recordings.",
    "join_short": "Let recordings shorter than a chunk share chunks, with short silences between them.",
    "keep_one_sided": "Leave a silent side of stereo silent. Without it the side with sound goes to both.",
    "reread": "Read all recordings again to see whether they have changed.",
    "json": "Print a summary to plot instead of tables.",
}
_EXAMPLES = {
    "build": (
        "build recordings/ data/",
        "build recordings/ data/ --valid 0.2 --level rms --max-silence 0.1",
        "build recordings/ data/ --channels 2",
        "build recordings/ data/ --task 3/16",
    ),
    "merge": ("merge data/",),
    "inspect": ("inspect data/", "inspect data/ --json", "inspect https://example.org/data"),
    "verify": ("verify data/", "verify s3://bucket/data"),
    "practice": ("practice recordings/", "practice recordings/ --minutes 0.5"),
}


def _examples(commands: Iterable[str]) -> str:
    return "examples:\n" + "".join(f"  python -m shards {line}\n" for line in commands)


def _functions() -> dict[str, Callable[..., None]]:
    # Worker processes import this module again: the imports are for the command alone.
    from shards.building.build import build
    from shards.building.merge import merge
    from shards.inspect import inspect
    from shards.practice.tunes import practice
    from shards.verify import verify

    return {function.__name__: function for function in (build, merge, inspect, verify, practice)}


def _version() -> str:
    try:
        return f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    except PackageNotFoundError:  # a copy that pip has not installed
        return f"{DISTRIBUTION} unknown"


def _make_parser(functions: dict[str, Callable[..., None]]) -> tuple[Any, dict[str, Any]]:
    """Builds the parser and the parsers of its commands."""
    from jsonargparse import ArgumentParser

    from shards.cli.help_text import HelpFormatter, usage_of

    first = _examples([*(lines[0] for lines in _EXAMPLES.values()), "--version"])
    looks: dict[str, Any] = {"formatter_class": HelpFormatter, "exit_on_error": False}
    parser = ArgumentParser(prog="python -m shards", description=__doc__, epilog=first, **looks)
    commands, parsers = parser.add_subcommands(), {}
    for name, function in functions.items():
        summary = (introspection.getdoc(function) or "").splitlines()[0]
        command = ArgumentParser(description=summary, epilog=_examples(_EXAMPLES[name]), **looks)
        switches = set(introspection.signature(function).parameters) & set(_SWITCHES)
        command.add_function_arguments(function, as_group=False, as_positional=True, skip={*switches})
        for switch in sorted(switches):
            command.add_argument(f"--{switch}", action="store_true", help=_SWITCHES[switch])
        command.usage = usage_of(f"python -m shards {name}", command)
        commands.add_subcommand(name, command, help=summary)
        parsers[name] = command
    return parser, parsers


def main(args: list[str] | None = None) -> int:
    """Run one command; an error is one line on stderr. Returns the exit code."""
    from shards.cli.usage_errors import parsed
    from shards.errors import DataError
    from shards.text import given_twice, printable, with_bytes, without_bytes

    if (sys.argv[1:] if args is None else args) == ["--version"]:
        print(_version())
        return 0
    functions = _functions()
    parser, commands = _make_parser(functions)
    words = [without_bytes(_underscored(word)) for word in (sys.argv[1:] if args is None else args)]
    if not words:
        parser.print_help(sys.stderr)
        print("\nerror: no command given", file=sys.stderr)
        return 2
    if flag := given_twice(words):
        print(printable(f"error: {flag} is given twice; pass it once"), file=sys.stderr)
        return 2
    try:
        chosen = parsed(parser, words, commands, "python -m shards")
    except ValueError as error:
        print(printable(f"error: {with_bytes(str(error))}"), file=sys.stderr)
        return 2
    try:
        functions[chosen.subcommand](**{name: with_bytes(value) for name, value in chosen[chosen.subcommand].items()})
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        print(printable(f"error: {error.filename or 'write'}: {error.strerror}"), file=sys.stderr)
        return 1
    return 0


def _underscored(word: str) -> str:
    """Flags may be written with dashes: --chunks-per-shard."""
    flag, equals, value = word.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value if word.startswith("--") else word


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
