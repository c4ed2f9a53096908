"""Measure everything that only a GPU can answer, in minutes; the same command goes on where it was cut."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu import machine
from benchmarks.gpu.plan import PARTS, parts_of
from benchmarks.gpu.results import TABLE, OtherResultsError, Results
from benchmarks.gpu.supervisor import Supervisor

FOLDER = Path("build/gpu")


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts that are not finished; returns 0 if all are finished then."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all, which are {', '.join(names)}")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder for gpu.json and gpu.md (default: {FOLDER})")
    parser.add_argument("--folder", type=Path, default=FOLDER / "work", help="folder for data and runs, 2 GB")
    parser.add_argument("--data", default="", help="shards to train on too, beside generated music")
    parser.add_argument("--minutes", type=float, default=8.5, help="time of the whole command (default: 8.5)")
    parser.add_argument("--cpu", action="store_true", help="run on the CPU")
    parser.add_argument("--quick", action="store_true", help="tiny models: a test that everything runs")
    parser.add_argument("--fresh", action="store_true", help="run finished parts again: those that are named, or all")
    args = parser.parse_args(arguments)
    if unknown := [name for name in args.parts if name not in names]:
        parser.error(f"no part {unknown[0]!r}: choose from {', '.join(names)}")
    if not args.minutes > 0:
        parser.error(f"--minutes is {args.minutes:g}: it must be above 0")
    if args.cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        facts = machine.facts(args.quick)
    except subprocess.CalledProcessError:
        print("error: torch does not start here; its own message is above", file=sys.stderr)
        return 1
    if not facts["setting"]["gpu"] and not args.cpu:
        print("error: torch sees no GPU; pass --cpu to run on the CPU", file=sys.stderr)
        return 1
    try:
        results = Results.open(args.out, facts, args.fresh, args.parts)
        args.folder.mkdir(parents=True, exist_ok=True)
    except (OtherResultsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    data = args.data if "://" in args.data or not args.data else str(Path(args.data).resolve())
    supervisor = Supervisor(
        results,
        args.folder.resolve(),
        args.minutes,
        not facts["setting"]["gpu"],
        args.quick,
        data,
        lambda line: print(line, flush=True),
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        wanted = [part for part in PARTS if part.name in args.parts] or parts_of(args.quick)
        unfinished = supervisor.run(wanted)
    except KeyboardInterrupt:
        print("interrupted; run the same command to go on", file=sys.stderr)
        return 130
    finally:
        supervisor.stop()
    print(f"\n{(args.out / TABLE).read_text() if (args.out / TABLE).exists() else ''}")
    if unfinished:
        print(f"not finished: {', '.join(unfinished)}; run the same command to go on", file=sys.stderr)
    return 1 if unfinished else 0
