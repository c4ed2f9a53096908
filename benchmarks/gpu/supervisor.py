"""Runs each part in a process of its own, so that a crash, an error of the device or a hang ends that part alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.job import Job
from benchmarks.gpu.plan import Part, seconds_for
from benchmarks.gpu.results import FINISHED, Results

ROOT = Path(__file__).parents[2]
POLL_S = 0.5
# After a part's time is up it may still write its last row.
GRACE_S = 5.0
# The times of parts are those of a GPU.
CPU_PATIENCE = 5
LOG_LINES = 15


class Supervisor:
    """Runs parts one after the other until the time is up.

    Args:
        results: Where the rows go.
        folder: Folder for data and runs.
        minutes: Time of the whole command.
        cpu, quick, data: See `Job`.
        tell: Prints a line.
    """

    def __init__(
        self,
        results: Results,
        folder: Path,
        minutes: float,
        cpu: bool,
        quick: bool,
        data: str,
        tell: Callable[[str], None],
    ) -> None:
        self._results, self._folder, self._tell = results, folder, tell
        self._end = time.monotonic() + 60 * minutes
        self._told = {"cpu": cpu, "quick": quick, "data": data}
        self._process: subprocess.Popen | None = None

    def run(self, parts: list[Part]) -> list[str]:
        """Runs the parts that are not finished; returns the names of those that are not finished afterwards."""
        slow = CPU_PATIENCE if self._told["cpu"] else 1
        wanted = [replace(part, seconds=slow * part.seconds) for part in parts]
        wanted = [part for part in wanted if not self._results.is_finished(part.name)]
        for part in parts:
            if self._results.is_finished(part.name):
                self._tell(f"{part.name}: finished before")
        for i, part in enumerate(wanted):
            seconds = seconds_for(part, wanted[i + 1 :], self._end - time.monotonic() - GRACE_S)
            if seconds <= 0:
                self._tell(f"{part.name}: no time left; run the same command again")
                if part.name not in self._results.parts:
                    self._results.put(part.name, "no time was left; run the same command again", 0.0, [])
                continue
            self._run_part(part, seconds)
        return [part.name for part in parts if not self._results.is_finished(part.name)]

    def words(self, part: str, task: Path) -> list[str]:
        """The command of a part's process."""
        return [sys.executable, "-m", "benchmarks.gpu.process", part, str(task)]

    def stop(self) -> None:
        """Ends the part that runs, with all its processes."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _run_part(self, part: Part, seconds: float) -> None:
        """Runs one part and notes its rows while it makes them, so that nothing is lost if this process ends too."""
        rows, task = self._folder / f"{part.name}-rows.json", self._folder / f"{part.name}-job.json"
        rows.unlink(missing_ok=True)
        Job(part.argument, self._folder, rows, seconds, found=self._results.values(), **self._told).save(task)
        began, log = time.monotonic(), self._folder / f"{part.name}.log"
        self._tell(f"{part.name}: {part.title}; at most {seconds:.0f} s")
        with open(log, "w") as output:
            self._process = subprocess.Popen(
                self.words(part.name, task),
                cwd=ROOT,
                env=self._environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        seen = 0.0
        status = "running"
        while status == "running":
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(POLL_S)
            code, passed = self._process.returncode, time.monotonic() - began
            if code is not None:
                status = FINISHED if code == 0 else _why(code)
            elif passed > seconds + GRACE_S:
                status = f"it took longer than its {seconds:.0f} s"
            changed = rows.stat().st_mtime if rows.exists() else 0.0
            if changed != seen or status != "running":
                seen = changed
                told = "" if status in (FINISHED, "running") else _last_lines(log)
                self._results.put(part.name, status, passed, _read(rows), told)
        self.stop()
        self._end_leftovers()
        self._tell(f"{part.name}: {status} after {time.monotonic() - began:.0f} s")

    def _end_leftovers(self) -> None:
        """Ends processes that a part left running in its session."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        more = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "WANDB_MODE": "disabled"}
        if self._told["cpu"]:
            more["CUDA_VISIBLE_DEVICES"] = ""
        # Threads of OpenMP that wait for others would keep cores busy that other processes need.
        return {"OMP_WAIT_POLICY": "passive", **os.environ, **more}


def _why(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return []


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(line[:300] for line in lines[-LOG_LINES:])
