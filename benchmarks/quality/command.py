"""Train all models that the claims about quality need, and check each claim."""

import argparse
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from benchmarks.quality.claims import CLAIMS, Finding
from benchmarks.quality.pictures import PICTURES
from benchmarks.quality.plan import TRIALS, shortened
from benchmarks.quality.tables import markdown, row_of
from benchmarks.results import work_folder, wrote
from benchmarks.trials.data import make_shards
from benchmarks.trials.running import run_all
from benchmarks.trials.trial import Result, TrialError
from shards.errors import DataError
from train.errors import TrainError
from train.evaluation.yardsticks.perceptual import require_packages


def findings_of(results: dict[str, Result], quick: bool) -> list[Finding]:
    """Checks each claim against its threshold. A claim without all its trials does not hold."""
    found = []
    for claim, full, short in CLAIMS:
        try:
            found.append(claim(results, short if quick else full))
        except KeyError as missing:
            found.append(Finding(claim.__name__, "not measured", False, f"{missing} was skipped"))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns 0 if every claim holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quality", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="150 steps per model, one seed, easier thresholds")
    parser.add_argument(
        "--folder", type=Path, help="folder for data and runs; it is kept, and a second call resumes in it"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="models to train at the same time, each on its share of the processors"
    )
    parser.add_argument("--minutes", type=float, default=600, help="start no model after so many minutes")
    parser.add_argument("--json", type=Path, help="file to write claims and measurements to")
    parser.add_argument("--pictures", type=Path, help="folder to write pictures to")
    args = parser.parse_args(arguments)
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    trials = shortened(TRIALS) if args.quick else TRIALS
    try:
        require_packages()
        with work_folder(args.folder, "quality-") as folder:
            data = make_shards(folder, args.quick)
            results = run_all(trials, data, folder, args.jobs, args.minutes, lambda line: print(line, flush=True))
            findings = findings_of(results, args.quick)
            if args.pictures:
                args.pictures.mkdir(parents=True, exist_ok=True)
                for name, draw in PICTURES.items():
                    with suppress(KeyError):  # a skipped trial has no picture
                        draw(results, args.pictures / f"quality-{name}.png")
    except (TrialError, DataError, TrainError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\n{markdown(results)}\n")
    for finding in findings:
        print(f"{'holds' if finding.holds else 'FAILS'}  {finding.name}: {finding.figures}  ({finding.claim})")
    content = {
        "quick": args.quick,
        "claims": [asdict(finding) for finding in findings],
        "models": [row_of(name, result) for name, result in results.items()],
    }
    return 0 if wrote(args.json, content) and all(finding.holds for finding in findings) else 1
