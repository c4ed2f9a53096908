"""Choose parts, measure, print a table, keep the rows in bench.json."""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks.speed.support import quiet
from benchmarks.speed.support.machine import facts
from benchmarks.speed.support.rows import Row, table
from shards.errors import DataError
from shards.files import write_atomically

PARTS = {
    "reading": "data in memory",
    "disk": "more data than memory",
    "busy": "a training thread beside the reader",
    "resume": "the first batch after resuming",
    "waiting": "the share of a training step spent waiting for data",
    "saving": "what checkpoints cost a training",
    "shuffling": "same-recording pairs in a batch",
    "building": "recordings to shards",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the parts in turn; the exit code says whether they could be measured, not whether targets are reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(f"{k}: {v}" for k, v in PARTS.items()))
    parser.add_argument("--quick", action="store_true", help="tiny data: shows that it works, not how fast")
    parser.add_argument("--folder", type=Path, help="where to put the data, up to 40 GB; kept when it is named")
    parser.add_argument("--out", type=Path, help="bench.json, in build/ with --quick; other parts' rows are kept")
    parser.add_argument(
        "--patience", type=float, default=300, help="seconds to wait in each part for other programs to be quiet"
    )
    args = parser.parse_args(arguments)
    unknown = set(args.parts) - PARTS.keys()
    if unknown:
        parser.error(f"no part {sorted(unknown)[0]!r}: choose among {', '.join(PARTS)}")
    parts = args.parts or list(PARTS)
    scratch = Path("build")
    if args.out is None:
        args.out = scratch / "bench.json" if args.quick else Path("bench.json")
    console = Console(width=None if sys.stdout.isatty() else 170)
    try:
        if args.folder:
            args.folder.mkdir(parents=True, exist_ok=True)
            _run(parts, args.folder, args, console)
        else:
            scratch.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="bench-", dir=scratch) as folder:
                _run(parts, Path(folder), args, console)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(parts: list[str], folder: Path, args: argparse.Namespace, console: Console) -> None:
    for part in parts:
        quiet.wait_until_quiet(0 if args.quick else args.patience)
        with console.status(f"{part}: {PARTS[part]}"):
            command = f"python -m benchmarks speed {part}" + (" --quick" if args.quick else "")
            rows = import_module(f"benchmarks.speed.{part}").measure(folder, args.quick)
            rows = [replace(row, command=row.command or command) for row in rows]
        console.print(table(rows))
        others = quiet.others()
        console.print("" if others is None else f"other programs took {others:.0f} % of the processors\n")
        save(args.out, part, rows)


def save(path: Path, part: str, rows: list[Row]) -> None:
    """Put a part's rows into the file, with the machine they were measured on, in the place of its old ones."""
    kept = []
    if path.exists():
        kept = [row for row in json.loads(path.read_text())["rows"] if row["part"] != part]
    machine = facts()
    when = {"date": machine["date"], "others_percent": quiet.others() and round(quiet.others(), 1)}
    new = [{"part": part} | row.to_json() | when for row in rows]
    ordered = sorted(kept + new, key=lambda row: list(PARTS).index(row["part"]))
    write_atomically(path, json.dumps({"machine": machine, "rows": ordered}, indent=1) + "\n")
