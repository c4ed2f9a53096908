"""Inject faults into a small training on two processes until it has finished, and check that nothing was lost."""

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.faults.checks import all_checks
from benchmarks.faults.disk import small_disk
from benchmarks.faults.plan import EVERY, KINDS, plan, steps_needed
from benchmarks.faults.processes import FaultError, Processes
from benchmarks.faults.report import rows_of, table_of, verdict
from benchmarks.faults.runner import WHOLE_S, FaultRunner
from benchmarks.faults.target import BATCH, command, make_data, training_chunks
from benchmarks.results import make_console, work_folder, write_results
from train.errors import TrainError


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns 0 if every check passed."""
    kinds_help = "\n".join(f"  {kind:26s} {what}" for kind, what in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks faults",
        description=f"{__doc__}\n\nkinds of fault:\n{kinds_help}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=13, help="number of faults; 100 take half an hour on two cores")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order and the moments of the faults")
    parser.add_argument("--kinds", help="only these kinds of fault, separated by commas")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--folder", type=Path, help="new folder for data, runs and logs; it is kept")
    args = parser.parse_args(arguments)
    kinds = args.kinds.split(",") if args.kinds else [*KINDS]
    for kind in kinds:
        if kind not in KINDS:
            parser.error(f"no kind of fault {kind!r}: choose from {', '.join(KINDS)}")
    if args.kills < 1:
        parser.error("--kills: must be 1 or more")
    if args.folder and args.folder.exists():
        parser.error(f"--folder {args.folder}: already exists; name a new folder")
    try:
        with work_folder(args.folder, "faults-") as folder:
            result = run_under_faults(folder, args.kills, args.seed, kinds)
    except (FaultError, TrainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    console = make_console()
    console.print(table_of(result["rows"], result["skipped"], result["seed"]))
    console.print("\n".join(verdict(result["checks"])), markup=False, highlight=False)
    if args.json:
        write_results(args.json, result)
    return 0 if result["passed"] else 1


def run_under_faults(folder: Path, kills: int, seed: int, kinds: list[str]) -> dict[str, Any]:
    """Trains once undisturbed and once under faults, in `folder`/run, and compares; returns the results.

    Raises:
        FaultError: if an attempt hung, or ended without a fault.
    """
    begin = time.monotonic()
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with small_disk(folder / "disk") as disk:
        skipped = {kind: disk.why_not for kind in kinds if kind == "disk full" and disk.why_not}
        faults = plan(kills, seed, [kind for kind in kinds if kind not in skipped])
        steps = steps_needed(faults)
        data = make_data(folder)
        reference, run = folder / "reference", disk.folder / "run"
        # The reference run trains at the same time.
        undisturbed = Processes(command(data, reference, steps, "disabled"), folder / "reference.log")
        say(f"a run of {steps} steps, {len(faults)} faults; press Ctrl-C to inject no more")
        runner = FaultRunner(command(data, run, steps, "offline"), run, disk, folder / "faulted.log", say)
        try:
            outcomes = runner.run_all(faults)
            undisturbed.wait_for_end(WHOLE_S)
        finally:
            undisturbed.kill_all()
            if run.exists():
                shutil.copytree(run, folder / "run", symlinks=True)  # the disk is about to be unmounted
    if not (reference / "DONE").exists():
        raise FaultError(f"the reference run has not finished: {undisturbed.last_error()}")
    run = folder / "run"
    checks = all_checks(run, reference, steps, training_chunks(data), BATCH, outcomes)
    return {
        "kills": len(outcomes),
        "seed": seed,
        "steps": steps,
        "every": EVERY,
        "seconds": round(time.monotonic() - begin),
        "passed": not any(checks.values()),
        "checks": checks,
        "skipped": skipped,
        "rows": rows_of(outcomes),
        "faults": [outcome.to_json() for outcome in outcomes],
    }


def say(line: str) -> None:
    """Prints a line of progress."""
    print(line, flush=True)
