"""Train the trunks of other codecs in our VAE, as long as ours, and put classical codecs beside them.

Bottleneck, losses and latents are those of vae_tiny, and each tower has about as many parameters. Each trunk is trained
at two learning rates, and the better one counts.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.league.plan import TRUNKS, first_round, further_seeds, shortened
from benchmarks.league.table import markdown, rows_of
from benchmarks.results import work_folder, write_results
from benchmarks.trials.data import make_shards
from benchmarks.trials.running import run_all
from benchmarks.trials.trial import Result, Trial, TrialError
from shards import DataError, Split
from train.errors import TrainError
from train.evaluation.yardsticks.perceptual import require_packages

CHUNKS = (22050, 22050, 1)  # samples, Hz and channels
LARGEST_DIFFERENCE = 0.15  # of the training time of a model
NEEDED = {"dac": "transformers", "seanet": "transformers", "banded": "transformers", "oobleck": "diffusers"}


def checked(data: Path) -> Path:
    """The folder of shards; raises DataError if the strides of the trunks do not fit its chunks."""
    split = Split.open(str(data), "valid")
    if (split.samples, split.rate, split.channels) != CHUNKS:
        raise DataError(
            f"{data}: {split.channels} x {split.samples:,} samples a chunk at {split.rate:,} Hz: the trunks need 1 x "
            f"{CHUNKS[0]:,} at {CHUNKS[1]:,} Hz; build shards with --samples {CHUNKS[0]} --rate {CHUNKS[1]}"
        )
    return data


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns 1 if a trial failed or a package is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks league", description=__doc__)
    parser.add_argument("trunks", nargs="*", metavar="TRUNK", help=f"of {', '.join(TRUNKS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="150 steps of small batches, one seed, few recordings")
    parser.add_argument("--seconds", type=float, default=300.0, help="training time of each model")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of each trunk at its better rate")
    parser.add_argument("--data", type=Path, help="shards to train on, of chunks of 22,050 samples at 22,050 Hz")
    parser.add_argument("--perceptual", action="store_true", help="measure Zimtohrli and ViSQOL, which takes minutes")
    parser.add_argument("--folder", type=Path, help="folder for data and runs; it is kept, and a second call resumes")
    parser.add_argument("--jobs", type=int, default=2, help="models to train at the same time")
    parser.add_argument("--minutes", type=float, default=600, help="start no model after so many minutes")
    parser.add_argument("--json", type=Path, help="file to write all measurements to")
    args = parser.parse_args(arguments)
    trunks = list(dict.fromkeys(args.trunks or TRUNKS))
    if unknown := [trunk for trunk in trunks if trunk not in TRUNKS]:
        parser.error(f"{unknown[0]!r} is not one of: {', '.join(TRUNKS)}")
    if args.seconds <= 0 or args.seeds < 1:
        parser.error("--seconds must be above 0 and --seeds at least 1")
    needed = {NEEDED[trunk] for trunk in trunks if trunk in NEEDED}
    if absent := sorted(name for name in needed if find_spec(name) is None):
        print(f"error: {' and '.join(absent)} not installed; run: pip install {' '.join(absent)}", file=sys.stderr)
        return 1
    try:
        if args.perceptual:
            require_packages()
        with work_folder(args.folder, "league-") as folder:
            data = checked(args.data) if args.data else make_shards(folder, args.quick)
            results, missing = _trained(args, trunks, data.resolve(), folder)
    except (TrialError, DataError, TrainError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = rows_of(results, trunks, args.seeds)
    if args.json:
        models = {name: {"steps": result.steps, **result.summary["passages"]} for name, result in results.items()}
        write_results(args.json, {"quick": args.quick, "rows": rows, "models": models})
    print(f"\n{markdown(rows)}")
    for name, result in results.items():
        if not args.quick and abs(result.seconds / args.seconds - 1) > LARGEST_DIFFERENCE:
            print(f"{name}: trained for {result.seconds:.0f} s instead of {args.seconds:.0f} s")
    if missing:
        print(f"not trained, because the time is up: {', '.join(missing)}; a higher --minutes with the same --folder")
    return 1 if missing else 0


def _trained(
    args: argparse.Namespace, trunks: Sequence[str], data: Path, folder: Path
) -> tuple[dict[str, Result], list[str]]:
    """The results of both rounds by the names of their trials, and the names of those for which no time was left."""
    end = time.monotonic() + 60 * args.minutes

    def carried_out(trials: list[Trial]) -> dict[str, Result]:
        chosen = shortened(trials) if args.quick else trials
        left = (end - time.monotonic()) / 60
        return run_all(chosen, data, folder, args.jobs, left, lambda line: print(line, flush=True))

    planned = first_round(trunks, args.seconds, args.perceptual)
    results = carried_out(planned)
    if not args.quick:
        more = further_seeds(results, trunks, args.seeds, args.seconds, args.perceptual)
        planned, results = [*planned, *more], results | carried_out(more)
    return results, [trial.name for trial in planned if trial.name not in results]
