"""Train vae_tiny with one change of its losses or layers at a time, all for the same time and in the same seeds."""

import argparse
import sys

from benchmarks.ablations.plan import CHANGES, trials
from benchmarks.trials.options import ERRORS, add_options, chosen, finish, prepared
from benchmarks.trials.running import run_all
from benchmarks.trials.table import markdown, model_row, other_codes
from benchmarks.trials.trial import shortened


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns 1 if a trial failed, is missing, or a package is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ablations", description=__doc__)
    parser.add_argument("changes", nargs="*", metavar="CHANGE", help=f"of {', '.join(CHANGES)}; all if none is named")
    add_options(parser, 300.0, "seeds of each model")
    args = parser.parse_args(arguments)
    changes = chosen(parser, args, args.changes, CHANGES)
    try:
        with prepared(args, "ablations-") as (data, folder):
            planned = trials(changes, 1 if args.quick else args.seeds, args.seconds, args.perceptual)
            if args.quick:
                planned = shortened(planned)
            results = run_all(planned, data, folder, args.jobs, args.minutes, lambda line: print(line, flush=True))
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = []
    for change in changes:
        own = [results[trial.name] for trial in planned if trial.name in results and is_of(trial.name, change)]
        if own:
            rows.append(model_row(CHANGES[change], own))
    if results:
        rows += other_codes(next(iter(results.values())))
    missing = [trial.name for trial in planned if trial.name not in results]
    return finish(args, results, rows, markdown(rows), missing)


def is_of(name: str, change: str) -> bool:
    """Whether a trial, by its name, is one of a change."""
    return name.rpartition("-")[0] == change
