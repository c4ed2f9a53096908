"""Measure the speed of data loading and checkpoints, print a table and write the rows to bench.json."""

import argparse
import json
import sys
from dataclasses import replace
from datetime import date
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks.results import BUILD, make_console, work_folder, write_results
from benchmarks.speed.support import quiet
from benchmarks.speed.support.rows import Row, table
from shards.errors import DataError

PARTS = {
    "sets": "several data sets in fixed shares against one",
    "stereo": "stereo chunks against mono ones of as many bytes",
    "reading": "data in memory",
    "disk": "more data than memory",
    "busy": "a training thread next to the reader",
    "resume": "time to the first batch after resuming",
    "elastic": "resuming an epoch on another number of processes",
    "loop": "a step of the loop against a bare one",
    "adversarial": "a step of the adversarial phase against one before it",
    "augmenting": "windows of chunks and augmentation, in the reader and in a step",
    "generating": "drawing from a prior, with and without the cache",
    "pairs": "two processes on one model against two models on half of the batch",
    "waiting": "share of a training step spent waiting for data",
    "saving": "cost of checkpoints in training",
    "shuffling": "chunks of the same recording in a batch",
    "building": "building shards from recordings",
}
# The others are named like their part.
MODULES = {
    "adversarial": "benchmarks.speed.models.adversarial",
    "augmenting": "benchmarks.speed.models.augmenting",
    "generating": "benchmarks.speed.models.generating",
    "shuffling": "benchmarks.speed.mixing.shuffling",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts one after the other; returns 0 if all were measured, even if a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(f"{k}: {v}" for k, v in PARTS.items()))
    parser.add_argument(
        "--quick", action="store_true", help="tiny data: a test that everything runs, not a measurement"
    )
    parser.add_argument(
        "--folder", type=Path, help="folder for the data, up to 40 GB; it is kept (default: a temporary folder)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="output file; rows of other parts are kept (default: bench.json, with --quick in build/)",
    )
    parser.add_argument(
        "--patience", type=float, default=300, help="seconds to wait in each part until other programs are idle"
    )
    args = parser.parse_args(arguments)
    unknown = set(args.parts) - PARTS.keys()
    if unknown:
        parser.error(f"no part {sorted(unknown)[0]!r}: choose from {', '.join(PARTS)}")
    parts = args.parts or list(PARTS)
    if args.out is None:
        args.out = BUILD / "bench.json" if args.quick else Path("bench.json")
    try:
        with work_folder(args.folder, "bench-") as folder:
            _run(parts, folder, args, make_console())
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(parts: list[str], folder: Path, args: argparse.Namespace, console: Console) -> None:
    for part in parts:
        quiet.wait_until_quiet(0 if args.quick else args.patience)
        with console.status(f"{part}: {PARTS[part]}"):
            command = f"python -m benchmarks speed {part}" + (" --quick" if args.quick else "")
            rows = import_module(MODULES.get(part, f"benchmarks.speed.{part}")).measure(folder, args.quick)
            rows = [replace(row, command=row.command or command) for row in rows]
        console.print(table(rows))
        others = quiet.others()
        console.print("" if others is None else f"other programs took {others:.0f} % of the processors\n")
        save(args.out, part, rows)


def save(path: Path, part: str, rows: list[Row]) -> None:
    """Writes the rows of a part to the file, with facts about the machine, and replaces earlier rows of the part."""
    kept = []
    if path.exists():
        kept = [row for row in json.loads(path.read_text())["rows"] if row["part"] != part]
    when = {"date": date.today().isoformat(), "others_percent": quiet.others() and round(quiet.others(), 1)}
    new = [{"part": part} | row.to_json() | when for row in rows]
    ordered = sorted(kept + new, key=lambda row: list(PARTS).index(row["part"]))
    write_results(path, {"rows": ordered})
