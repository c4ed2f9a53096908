"""Inject faults into a small training or encoding until it has finished, and check that nothing was lost."""

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.faults.disk import small_disk
from benchmarks.faults.encodings import Encoding
from benchmarks.faults.plan import ENCODING, EVERY, TRAINING
from benchmarks.faults.processes import FaultError, Processes
from benchmarks.faults.report import rows_of, table_of, verdict
from benchmarks.faults.runner import WHOLE_S, FaultRunner
from benchmarks.faults.target import Target
from benchmarks.faults.trainings import AutoencoderTraining, MixtureTraining, PriorTraining
from benchmarks.results import make_console, work_folder, write_results
from train.errors import TrainError

TARGETS: dict[str, type[Target]] = {
    target.name: target for target in (AutoencoderTraining, MixtureTraining, PriorTraining, Encoding)
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns 0 if every check passed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks faults",
        description=f"{__doc__}\n\n{description()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--target", choices=TARGETS, default=AutoencoderTraining.name, help="what gets the faults; see above"
    )
    parser.add_argument("--kills", type=int, default=13, help="number of faults; 100 take half an hour on two cores")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order and the moments of the faults")
    parser.add_argument("--kinds", help="only these kinds of fault, separated by commas")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--folder", type=Path, help="new folder for data, runs and logs; it is kept")
    args = parser.parse_args(arguments)
    known = TARGETS[args.target].kinds
    kinds = args.kinds.split(",") if args.kinds else [*known]
    for kind in kinds:
        if kind not in known:
            parser.error(f"no kind of fault {kind!r}: choose from {', '.join(known)}")
    if args.kills < 1:
        parser.error("--kills: must be 1 or more")
    if args.folder and args.folder.exists():
        parser.error(f"--folder {args.folder}: already exists; name a new folder")
    try:
        with work_folder(args.folder, "faults-") as folder:
            result = run_under_faults(folder, args.kills, args.seed, kinds, args.target)
    except (FaultError, TrainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    console = make_console()
    console.print(table_of(result, TARGETS[args.target].unit))
    console.print("\n".join(verdict(result["checks"])), markup=False, highlight=False)
    if args.json:
        write_results(args.json, result)
    return 0 if result["passed"] else 1


def description() -> str:
    """The targets and their kinds of fault, for the help."""
    lines = ["targets:", *(f"  {name:26s} {target.about}" for name, target in TARGETS.items())]
    for what, kinds in (("a training", TRAINING), ("an encoding", ENCODING)):
        lines += [f"kinds of fault of {what}:", *(f"  {kind:26s} {about}" for kind, about in kinds.items())]
    return "\n".join(lines)


def run_under_faults(
    folder: Path, kills: int, seed: int, kinds: list[str], name: str = AutoencoderTraining.name
) -> dict[str, Any]:
    """Runs a target once undisturbed and once under faults, in `folder`/run, and compares; returns the results.

    Raises:
        FaultError: if an attempt hung, or ended without a fault.
    """
    begin = time.monotonic()
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with small_disk(folder / "disk") as disk:
        skipped = {kind: disk.why_not for kind in kinds if kind == "disk full" and disk.why_not}
        faults = TARGETS[name].plan(kills, seed, [kind for kind in kinds if kind not in skipped])
        target = TARGETS[name](folder, disk.folder / "run")
        steps = target.prepare(faults)
        # The undisturbed one runs at the same time.
        undisturbed = Processes(target.undisturbed(), folder / "reference.log")
        say(f"{target.about}: {steps} {target.unit}, {len(faults)} faults; press Ctrl-C to inject no more")
        runner = FaultRunner(target, disk, folder / "faulted.log", say)
        try:
            outcomes = runner.run_all(faults)
            undisturbed.wait_for_end(WHOLE_S)
        finally:
            undisturbed.kill_all()
            if target.run.exists():
                shutil.copytree(target.run, folder / "run", symlinks=True)  # the disk is about to be unmounted
    if not target.reference_is_done():
        raise FaultError(f"the reference run has not finished: {undisturbed.last_error()}")
    checks = target.check(folder / "run", outcomes)
    return {
        "target": name,
        "kills": len(outcomes),
        "seed": seed,
        "steps": steps,
        "every": EVERY,
        "seconds": round(time.monotonic() - begin),
        "passed": not any(checks.values()),
        "checks": checks,
        "skipped": skipped,
        "rows": rows_of(outcomes, target.kinds),
        "faults": [outcome.to_json() for outcome in outcomes],
    }


def say(line: str) -> None:
    """Prints a line of progress."""
    print(line, flush=True)
