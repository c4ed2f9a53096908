"""Train all models that the claims about quality need, and check each claim."""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

from benchmarks.quality.claims import CLAIMS, Finding
from benchmarks.quality.data import make_shards
from benchmarks.quality.pictures import PICTURES
from benchmarks.quality.plan import TRIALS, Trial, shortened
from benchmarks.quality.tables import markdown, row_of
from benchmarks.quality.trial import Result, TrialError, carry_out, is_done, seconds_per_step
from benchmarks.results import work_folder, write_results
from shards.errors import DataError


class Paces:
    """Seconds per step of each kind of trial, measured once."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._data, self._folder = data, folder
        self._known: dict[tuple, float] = {}
        self._lock = threading.Lock()
        self._locks: dict[tuple, threading.Lock] = {}

    def of(self, trial: Trial, cpus: Sequence[int]) -> float:
        """Returns the seconds per step; measures them on these processors if they are not known."""
        with self._lock:
            lock = self._locks.setdefault(trial.pace_key, threading.Lock())
        with lock:
            if trial.pace_key not in self._known:
                self._known[trial.pace_key] = seconds_per_step(trial, self._data, self._folder, cpus)
            return self._known[trial.pace_key]


def run_all(
    trials: Sequence[Trial], data: Path, folder: Path, jobs: int, minutes: float, tell: Callable[[str], None]
) -> dict[str, Result]:
    """Runs all trials, `jobs` at a time, each on its share of the processors.

    No trial starts after `minutes` minutes. Trials that would train the same model share one.

    Raises:
        TrialError: if a trial fails; trials that are already running finish first.
    """
    paces = Paces(data, folder)
    cpus = sorted(os.sched_getaffinity(0))
    jobs = min(jobs, len(cpus))
    shares: SimpleQueue[list[int]] = SimpleQueue()
    for job in range(jobs):
        shares.put(cpus[job::jobs])
    begin = time.monotonic()

    def one(trial: Trial) -> Result | None:
        if time.monotonic() - begin > 60 * minutes and not is_done(trial, folder):
            tell(f"skipped, because the time is up: {trial.name}")
            return None
        share = shares.get()
        try:
            result = carry_out(trial, data, folder, share, lambda t: paces.of(t, share))
        finally:
            shares.put(share)
        tell(
            f"{(time.monotonic() - begin) / 60:5.1f} min  {trial.name}: {result.steps} steps in "
            f"{result.seconds:.0f} s, SI-SDR {result.summary['reconstruction']['si_sdr']:.1f} dB"
        )
        return result

    different: dict[Trial, Trial] = {}
    for trial in trials:
        different.setdefault(trial.model_key, trial)
    with ThreadPoolExecutor(jobs) as pool:
        done = dict(zip(different, pool.map(one, different.values()), strict=True))
    found = {trial.name: done[trial.model_key] for trial in trials}
    return {name: result for name, result in found.items() if result is not None}


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
    trials = shortened(TRIALS) if args.quick else TRIALS
    try:
        with work_folder(args.folder, "quality-") as folder:
            data = make_shards(folder, args.quick)
            results = run_all(trials, data, folder, args.jobs, args.minutes, lambda line: print(line, flush=True))
            findings = findings_of(results, args.quick)
            if args.pictures:
                args.pictures.mkdir(parents=True, exist_ok=True)
                for name, draw in PICTURES.items():
                    with suppress(KeyError):  # a skipped trial has no picture
                        draw(results, args.pictures / f"quality-{name}.png")
    except (TrialError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        content = {
            "quick": args.quick,
            "claims": [asdict(finding) for finding in findings],
            "models": [row_of(name, result) for name, result in results.items()],
        }
        write_results(args.json, content)
    print(f"\n{markdown(results)}\n")
    for finding in findings:
        print(f"{'holds' if finding.holds else 'FAILS'}  {finding.name}: {finding.figures}  ({finding.claim})")
    return 0 if all(finding.holds for finding in findings) else 1
