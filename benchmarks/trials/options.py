"""What the command lines of the comparisons of trained models share."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path

from benchmarks.results import work_folder, wrote
from benchmarks.trials.data import checked, make_shards
from benchmarks.trials.trial import Result, TrialError
from shards import DataError
from train.errors import TrainError
from train.evaluation.yardsticks.perceptual import require_packages

# What ends a comparison with one line.
ERRORS = (TrialError, DataError, TrainError)

LARGEST_DIFFERENCE = 0.15  # of the training time of a model


def add_options(parser: argparse.ArgumentParser, seconds: float | None, seeds_help: str) -> None:
    """Adds the options for the length of trainings, the data, the folder and the table.

    Args:
        parser: The parser.
        seconds: Training time of each model by default; None where models are compared after equal steps.
        seeds_help: The help of `--seeds`.
    """
    parser.add_argument("--quick", action="store_true", help="few steps, one seed, few recordings")
    if seconds:
        parser.add_argument("--seconds", type=float, default=seconds, help="training time of each model")
    parser.add_argument("--seeds", type=int, default=2, help=seeds_help)
    parser.add_argument("--data", type=Path, help="shards to train on, of chunks of 22,050 samples at 22,050 Hz")
    parser.add_argument("--perceptual", action="store_true", help="measure Zimtohrli and ViSQOL, which takes minutes")
    parser.add_argument("--folder", type=Path, help="folder for data and runs; it is kept, and a second call resumes")
    parser.add_argument("--jobs", type=int, default=2, help="models to train at the same time")
    parser.add_argument("--minutes", type=float, default=600, help="start no model after so many minutes")
    parser.add_argument("--json", type=Path, help="file to write all measurements to")


def chosen(
    parser: argparse.ArgumentParser, args: argparse.Namespace, names: Sequence[str], known: Mapping
) -> list[str]:
    """The names without repetitions, all known ones if there are none; ends the command for wrong options."""
    found = list(dict.fromkeys(names or known))
    if unknown := [name for name in found if name not in known]:
        parser.error(f"{unknown[0]!r} is not one of: {', '.join(known)}")
    if not 0 < getattr(args, "seconds", 1) < inf or min(args.seeds, args.jobs) < 1:
        parser.error("--seconds must be above 0, --seeds and --jobs at least 1")
    return found


@contextmanager
def prepared(args: argparse.Namespace, prefix: str) -> Iterator[tuple[Path, Path]]:
    """The shards and the folder of a comparison.

    Raises:
        TrainError: if measures are asked for whose packages are not installed.
        DataError: if there are no recordings, or the shards do not fit.
    """
    if args.perceptual:
        require_packages()
    with work_folder(args.folder, prefix) as folder:
        data = checked(args.data) if args.data else make_shards(folder, args.quick)
        yield data.resolve(), folder


def finish(
    args: argparse.Namespace, results: Mapping[str, Result], rows: list[dict], table: str, missing: Sequence[str]
) -> int:
    """Writes the JSON file, and prints the table, trials of another length, and those for which no time was left.

    Returns:
        The exit code: 1 if a trial is missing.
    """
    print(f"\n{table}")
    for name, result in results.items() if hasattr(args, "seconds") and not args.quick else ():
        if abs(result.seconds / args.seconds - 1) > LARGEST_DIFFERENCE:
            print(f"{name}: trained for {result.seconds:.0f} s instead of {args.seconds:.0f} s")
    if missing:
        print(f"not trained, because the time is up: {', '.join(missing)}; a higher --minutes with the same --folder")
    models = {name: {"steps": result.steps, **result.summary.get("passages", {})} for name, result in results.items()}
    written = wrote(args.json, {"quick": args.quick, "rows": rows, "models": models})
    return 1 if missing or not written else 0
