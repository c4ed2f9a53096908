"""Decides whether a batch job is requeued after its launcher has ended: `python -m train.runs.requeue RUN_DIR ...`.

Used by slurm/lib.sh. It needs only the standard library, `shards.files` and `shards.text`, as it runs in the last
seconds of a job. Each decision is one line of RUN_DIR/jobs.jsonl.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.files import read_file
from shards.files.lines import LARGEST_FILE
from shards.text import printable
from train.runs.lines import LONGEST_NOTE, read_decisions, read_events
from train.runs.sealed_lines import append_sealed

JOBS_FILE = "jobs.jsonl"
ATTEMPTS_FILE = "attempts.jsonl"
START = b'"event": "started"'  # as slurm/lib.sh counts them
# Attempts in a row that may end without a request to stop and without a new checkpoint.
MAX_LOST_ATTEMPTS = 3
# Starts of a job in which a stop signal came before the program had started, or before its first step; from then on
# these count as failures.
MAX_STARTS = 10
REQUEUE, END = 0, 3  # exit codes; any other code means that Python itself or its launcher failed
REQUEUED = "requeued"


@dataclass(frozen=True)
class JobExit:
    """What is known when a launcher has ended.

    Attributes:
        code: The launcher's exit code.
        stop_signal: Why the batch script asked the program to stop: a signal's name; "the time limit" or
            "a preemption" when time is already up; or "".
        slurm_state: The job's state when it is no longer RUNNING, as after scancel; REQUEUED when Slurm itself has
            requeued the job; else "".
        user_error: The error that made the program exit and that a retry cannot fix, or "".
        attempts_before: Attempts that had started before this launch.
        events: The lines of attempts.jsonl.
        damaged_starts: Lines of starts in attempts.jsonl that are damaged and therefore not among the events.
        decisions: The lines of jobs.jsonl.
        newest: Step of the newest checkpoint; 0 when there is none.
        restarts: How often Slurm has requeued this job.
        done, stopped: First lines of the files DONE and STOPPED; "" when they do not exist.
    """

    code: int
    stop_signal: str = ""
    slurm_state: str = ""
    user_error: str = ""
    attempts_before: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    damaged_starts: int = 0
    decisions: list[dict[str, Any]] = field(default_factory=list)
    newest: int = 0
    restarts: int = 0
    done: str = ""
    stopped: str = ""

    @property
    def attempts(self) -> int:
        """Number of attempts of the run that have started; the batch script counts the lines of all starts too."""
        return sum(event.get("event") == "started" for event in self.events) + self.damaged_starts

    @property
    def started(self) -> bool:
        """Whether this launch started an attempt."""
        return self.attempts > self.attempts_before


@dataclass(frozen=True)
class Decision:
    """Whether the job is requeued, and the reason in one line."""

    requeue: bool
    reason: str


def decide(job: JobExit) -> Decision:
    """Returns the decision; a pure function, so that each case can be tested without Slurm."""
    if job.done and (job.started or not job.code):
        return Decision(False, f"the run is finished ({job.done})")
    if job.slurm_state:
        saved = f"saved ({job.stopped})" if job.started and job.stopped else "nothing saved since the newest checkpoint"
        if job.slurm_state == REQUEUED:
            return Decision(True, f"Slurm has requeued the job; {saved}")
        return Decision(False, f"Slurm ended the job ({job.slurm_state}); {saved}; run sbatch again to resume")
    if job.started and job.stopped:
        # The batch script also stops the program by the file STOP.
        by_user = ": stop_at " in job.stopped or (job.stopped.endswith(": STOP") and not job.stop_signal)
        if by_user:
            return Decision(False, f"saved and stopped as requested ({job.stopped}); run sbatch again to resume")
        if (count := stops_without_a_step(job)) >= MAX_STARTS:
            return Decision(
                False,
                f"{count} attempts in a row were stopped before their first step ({job.stopped}); give the job more "
                "time, or lower --tracking.evaluate_chunks if the first evaluation takes all of it",
            )
        return Decision(True, f"saved ({job.stopped})")
    starts = max(job.restarts, starts_without_progress(job.decisions))
    if job.stop_signal and not job.started and starts < MAX_STARTS:
        return Decision(True, f"{job.stop_signal} came before the program had started")
    if not job.code:
        return Decision(False, "the program ended without training")
    if not job.started and job.user_error:
        return Decision(False, f"the program could not start, and a retry would not help: {job.user_error}")
    if not job.attempts:
        return Decision(False, f"the program did not start (exit code {job.code}); see the error above")
    what = (
        f"ended with exit code {job.code}" if not job.stop_signal else f"did not save in time after {job.stop_signal}"
    )
    return _after_a_crash(job, what)


def _after_a_crash(job: JobExit, what: str) -> Decision:
    """Requeues the job unless further attempts would not help."""
    attempts = recent_attempts(job)
    last = attempts[-1].get("why", "") if attempts else ""
    what += f" ({last})" if last else ""
    if repeats(attempts):
        return Decision(
            False, f"two attempts in a row ended at step {attempts[-1]['reached']} with the same error: {last}"
        )
    count = sum(attempt["lost"] for attempt in attempts) + sum(
        not line.get("began", True) and line.get("newest") == job.newest for line in decisions_since_end(job.decisions)
    )
    count += not job.started  # this launch, which is in neither list
    if count >= MAX_LOST_ATTEMPTS:
        return Decision(False, f"{count} attempts in a row ended without a new checkpoint, the last one {what}")
    tries = (
        f"{count} of {MAX_LOST_ATTEMPTS} attempts without a new checkpoint" if count else "it had saved a checkpoint"
    )
    return Decision(True, f"the attempt {what}; {tries}")


def stops_without_a_step(job: JobExit) -> int:
    """The number of latest attempts in a row that a request stopped before their first step."""
    count = 0
    for attempt in reversed(recent_attempts(job)):
        if attempt["lost"] or attempt["reached"] > attempt["first"]:
            break
        count += 1
    return count


def starts_without_progress(decisions: list[dict[str, Any]]) -> int:
    """The number of latest decisions in a row to requeue a job in which the program had not started."""
    count = 0
    for line in reversed(decisions):
        if line.get("began", True) or not line.get("again"):
            break
        count += 1
    return count


def decisions_since_end(decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The decisions after the last one that ended a job: the count starts anew when the user submits again."""
    ends = [place for place, line in enumerate(decisions) if not line.get("again")]
    return decisions[ends[-1] + 1 :] if ends else decisions


def recent_attempts(job: JobExit) -> list[dict[str, Any]]:
    """The attempts since the last one that left a new checkpoint, and since the last decision that ended a job.

    Each has `number`; `first` and `reached`, the steps at its start and end; `why`, its error; `lost`, whether it
    ended without a request to stop and without a new checkpoint.
    """
    attempts: list[dict[str, Any]] = []
    for event in job.events:
        if event.get("event") == "started":
            first = event.get("step", 0)
            if attempts and first > attempts[-1]["first"]:
                attempts.clear()  # the one before left a checkpoint
            attempts.append(
                {"number": event.get("attempt", 0), "first": first, "reached": first, "why": "", "lost": True}
            )
        elif attempts:
            last = attempts[-1]
            last["reached"] = event.get("step", last["first"])
            last["why"] = event.get("reason", "")
            last["lost"] = event.get("event") != "ended"
    if attempts and job.newest > attempts[-1]["first"]:
        attempts = [attempts[-1] | {"lost": False}]
    ended = [line.get("attempt", 0) for line in job.decisions if not line.get("again")]
    return [attempt for attempt in attempts if attempt["number"] > max(ended, default=0)]


def repeats(attempts: list[dict[str, Any]]) -> bool:
    """Whether the last two attempts made progress to the same step and failed there with the same error."""
    if len(attempts) < 2:
        return False
    one, two = attempts[-2:]
    alike = all(one[key] == two[key] for key in ("reached", "why"))
    return alike and one["lost"] and two["lost"] and one["reached"] > one["first"] and bool(one["why"])


def read_job_exit(run_dir: Path, error_file: Path | None, **known: Any) -> JobExit:
    """Adds the contents of the run's folder to what the batch script knows."""
    steps = [path.name.removeprefix("step-") for path in (run_dir / "checkpoints").glob("step-*")]
    events = _lines(read_events, run_dir / ATTEMPTS_FILE)
    started = sum(event.get("event") == "started" for event in events)
    return JobExit(
        **known,
        user_error=_line(error_file) if error_file else "",
        events=events,
        damaged_starts=max(0, _lines_of_starts(run_dir / ATTEMPTS_FILE) - started),
        decisions=_lines(read_decisions, run_dir / JOBS_FILE),
        newest=max((int(step) for step in steps if step.isdecimal()), default=0),
        done=_line(run_dir / "DONE"),
        stopped=_line(run_dir / "STOPPED"),
    )


def _line(path: Path) -> str:
    try:
        return read_file(path, limit=LONGEST_NOTE).decode(errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _lines_of_starts(path: Path) -> int:
    """The number of lines that slurm/lib.sh counts as starts of attempts."""
    try:
        return sum(START in line for line in read_file(path, limit=LARGEST_FILE).split(b"\n"))
    except OSError:
        return 0


def _lines(read: Callable[[Path], list[dict[str, Any]]], path: Path) -> list[dict[str, Any]]:
    try:
        return read(path)
    except OSError:
        return []


def main(words: list[str]) -> int:
    """Prints the reason, appends the decision to jobs.jsonl, and returns REQUEUE or END."""
    parser = argparse.ArgumentParser(prog="python -m train.runs.requeue", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--code", type=int, required=True, help="the launcher's exit code")
    parser.add_argument("--stop-signal", default="", help="why the batch script asked the program to stop")
    parser.add_argument("--slurm-state", default="", help="the job's state when Slurm ended or requeued it")
    parser.add_argument("--error-file", type=Path, help="where the program wrote an error that a retry cannot fix")
    parser.add_argument("--attempts-before", type=int, default=0, help="attempts that had started before this launch")
    parser.add_argument("--restarts", type=int, default=0, help="SLURM_RESTART_COUNT")
    parser.add_argument("--job", default="", help="the job's id, for jobs.jsonl")
    given = vars(parser.parse_args(words))
    run_dir, job_id = given.pop("run_dir"), given.pop("job")
    job = read_job_exit(run_dir, **given)
    decision = decide(job)
    reason = printable(decision.reason)  # parts of it are from files
    if (run_dir / "run.json").exists():  # a folder that is not a run stays unchanged
        line = {
            "time": round(time.time(), 3),
            "job": job_id,
            "attempt": job.attempts,
            "began": job.started,
            "newest": job.newest,
            "again": decision.requeue,
            "why": reason,
        }
        with suppress(OSError):  # a full disk does not change the decision
            append_sealed(run_dir / JOBS_FILE, line)
    print(reason)
    return REQUEUE if decision.requeue else END


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
