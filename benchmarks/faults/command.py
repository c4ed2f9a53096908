"""Attack a tiny two-process training until it is done, and look whether anything was lost."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.faults.checks import all_checks
from benchmarks.faults.disk import small_disk
from benchmarks.faults.plan import EVERY, KINDS, plan, steps_needed
from benchmarks.faults.processes import FaultError, Processes
from benchmarks.faults.report import rows_of, table_of, verdict
from benchmarks.faults.runner import WHOLE_S, FaultRunner
from benchmarks.faults.target import BATCH, command, make_data, training_chunks
from shards.files import write_atomically
from train.errors import TrainError


def main(arguments: list[str] | None = None) -> int:
    """Runs the siege; the exit code says whether everything held."""
    told = "\n".join(f"  {kind:26s} {what}" for kind, what in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks faults",
        description=f"{__doc__}\n\nattacks:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=13, help="attacks in all; 100 take half an hour on two cores")
    parser.add_argument("--seed", type=int, default=0, help="of the plan: which attack when")
    parser.add_argument("--kinds", help="only these attacks, with commas between")
    parser.add_argument("--json", type=Path, help="a file for the result")
    parser.add_argument("--folder", type=Path, help="a new folder for data, runs and logs, which stays")
    args = parser.parse_args(arguments)
    kinds = args.kinds.split(",") if args.kinds else [*KINDS]
    for kind in kinds:
        if kind not in KINDS:
            parser.error(f"no attack {kind!r}: choose among {', '.join(KINDS)}")
    if args.kills < 1:
        parser.error("--kills: 1 at least")
    try:
        if args.folder:
            if args.folder.exists():
                parser.error(f"--folder {args.folder}: is there already; name a new one")
            return _judge(run_under_faults(args.folder, args.kills, args.seed, kinds), args)
        Path("build").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="chaos-", dir="build", ignore_cleanup_errors=True) as name:
            return _judge(run_under_faults(Path(name) / "chaos", args.kills, args.seed, kinds), args)
    except (FaultError, TrainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run_under_faults(folder: Path, kills: int, seed: int, kinds: list[str]) -> dict[str, Any]:
    """Makes the straight run and the attacked one, in `folder`/run, and checks; returns the result as plain values.

    Raises:
        FaultError: when an attempt hung or ended by itself.
    """
    begin = time.monotonic()
    folder = folder.resolve()
    folder.mkdir(parents=True)
    with small_disk(folder / "disk") as disk:
        skipped = {kind: disk.why_not for kind in kinds if kind == "disk full" and disk.why_not}
        attacks = plan(kills, seed, [kind for kind in kinds if kind not in skipped])
        steps = steps_needed(attacks)
        data = make_data(folder)
        straight, run = folder / "straight", disk.folder / "run"
        peace = Processes(command(data, straight, steps, "disabled"), folder / "straight.log")  # runs beside
        say(f"a run of {steps} steps, {len(attacks)} attacks; Ctrl-C: no more attacks")
        siege = FaultRunner(command(data, run, steps, "offline"), run, disk, folder / "attacked.log", say)
        try:
            outcomes = siege.carry_out(attacks)
            peace.wait_for_end(WHOLE_S)
        finally:
            peace.kill_all()
            if run.exists():
                shutil.copytree(run, folder / "run", symlinks=True)  # the disk goes
    if not (straight / "DONE").exists():
        raise FaultError(f"the straight run is not done: {peace.last_words()}")
    run = folder / "run"
    checks = all_checks(run, straight, steps, training_chunks(data), BATCH, outcomes)
    return {
        "kills": len(outcomes),
        "seed": seed,
        "steps": steps,
        "every": EVERY,
        "seconds": round(time.monotonic() - begin),
        "sound": not any(checks.values()),
        "checks": checks,
        "skipped": skipped,
        "rows": rows_of(outcomes),
        "attacks": [outcome.to_json() for outcome in outcomes],
    }


def say(line: str) -> None:
    """A line of progress."""
    print(line, flush=True)


def _judge(result: dict[str, Any], args: argparse.Namespace) -> int:
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table_of(result["rows"], result["skipped"], result["seed"]))
    console.print("\n".join(verdict(result["checks"])), markup=False, highlight=False)
    if args.json:
        write_atomically(args.json, json.dumps(result, indent=1) + "\n")
    return 0 if result["sound"] else 1
