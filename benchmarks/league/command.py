"""Train the trunks of other codecs in our VAE, as long as ours, and put classical codecs beside them.

Bottleneck, losses and latents are those of vae_tiny, or of the VAE by default, and each tower has about as many
parameters. Each trunk is trained at two learning rates, and the better one counts.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.league.plan import SIZES, TRUNKS, first_round, further_seeds
from benchmarks.league.table import league_table, rows_of
from benchmarks.trials.options import ERRORS, add_options, chosen, finish, prepared
from benchmarks.trials.running import run_all
from benchmarks.trials.trial import Result, Trial, shortened

NEEDED = {"dac": "transformers", "seanet": "transformers", "banded": "transformers", "oobleck": "diffusers"}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns 1 if a trial failed or a package is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks league", description=__doc__)
    parser.add_argument("trunks", nargs="*", metavar="TRUNK", help=f"of {', '.join(TRUNKS)}; all if none is named")
    parser.add_argument("--size", choices=[*SIZES], default="tiny", help="of the trunks; default is made for GPUs")
    add_options(parser, 300.0, "seeds of each trunk at its better rate")
    args = parser.parse_args(arguments)
    trunks = chosen(parser, args, args.trunks, TRUNKS)
    needed = {NEEDED[trunk] for trunk in trunks if trunk in NEEDED}
    if absent := sorted(name for name in needed if find_spec(name) is None):
        print(f"error: {' and '.join(absent)} not installed; run: pip install {' '.join(absent)}", file=sys.stderr)
        return 1
    try:
        with prepared(args, "league-") as (data, folder):
            results, missing = _trained(args, trunks, data, folder)
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = rows_of(SIZES[args.size], results, trunks, args.seeds)
    return finish(args, results, rows, league_table(rows), missing)


def _trained(
    args: argparse.Namespace, trunks: Sequence[str], data: Path, folder: Path
) -> tuple[dict[str, Result], list[str]]:
    """The results of both rounds by the names of their trials, and the names of those for which no time was left."""
    size, end = SIZES[args.size], time.monotonic() + 60 * args.minutes

    def carried_out(trials: list[Trial]) -> dict[str, Result]:
        carried = shortened(trials) if args.quick else trials
        left = (end - time.monotonic()) / 60
        return run_all(carried, data, folder, args.jobs, left, lambda line: print(line, flush=True))

    planned = first_round(size, trunks, args.seconds, args.perceptual)
    results = carried_out(planned)
    if not args.quick:
        more = further_seeds(size, results, trunks, args.seeds, args.seconds, args.perceptual)
        planned, results = [*planned, *more], results | carried_out(more)
    return results, [trial.name for trial in planned if trial.name not in results]
