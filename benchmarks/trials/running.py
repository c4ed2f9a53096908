"""Runs many trials side by side, each on its share of the processors."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from benchmarks.trials.trial import Result, Trial, carry_out, is_done, seconds_per_step


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
        quality = f", SI-SDR {result.summary['reconstruction']['si_sdr']:.1f} dB" if result.summary else ""
        took = f"{result.steps} steps in {result.seconds:.0f} s"
        tell(f"{(time.monotonic() - begin) / 60:5.1f} min  {trial.name}: {took}{quality}")
        return result

    different: dict[Trial, Trial] = {}
    for trial in trials:
        different.setdefault(trial.model_key, trial)
    with ThreadPoolExecutor(jobs) as pool:
        done = dict(zip(different, pool.map(one, different.values()), strict=True))
    found = {trial.name: done[trial.model_key] for trial in trials}
    return {name: result for name, result in found.items() if result is not None}
