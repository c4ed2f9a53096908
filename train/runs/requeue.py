"""Whether a batch job goes on, decided when its launcher has ended: `python -m train.runs.requeue RUN_DIR ...`.

Used by slurm/lib.sh. The standard library and `shards.files` only: it runs in the seconds before a job's end. What was
decided is kept in RUN_DIR/jobs.jsonl, a line for each end of a launcher.
"""

import argparse
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.files import append_line, read_file, read_lines

JOBS_FILE = "jobs.jsonl"
# Attempts in a row that end by themselves and leave no new checkpoint.
LIMIT = 3
# Lives of a job, of which some may have been preempted before the program could begin: from then on these count too.
MAX_STARTS = 10
REQUEUE, END = 0, 3  # any other code is a failure of Python, or of what starts it
REQUEUED = "requeued"


@dataclass(frozen=True)
class JobExit:
    """What is known when a launcher has ended.

    Attributes:
        code: Its exit code.
        asked: What told the batch script to end: a signal, "the time limit" when time is up already, or "".
        outside: Slurm's word for the job's state when that is no longer RUNNING, as after scancel; REQUEUED where it
            goes on by itself; else "".
        refusal: The line by which the program refused to begin, or "".
        before: Attempts that had begun before this launch.
        events: The lines of attempts.jsonl.
        history: The lines of jobs.jsonl.
        newest: Step of the newest checkpoint; 0 when there is none.
        restarts: How often Slurm has put this job back into its queue.
        done, stopped: What the files DONE and STOPPED say; "" where they are not there.
    """

    code: int
    asked: str = ""
    outside: str = ""
    refusal: str = ""
    before: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    newest: int = 0
    restarts: int = 0
    done: str = ""
    stopped: str = ""

    @property
    def began(self) -> int:
        """Attempts of the run until now."""
        return sum(event.get("event") == "started" for event in self.events)


@dataclass(frozen=True)
class Decision:
    """Whether the job goes on, and one line that says why."""

    again: bool
    why: str


def decide(ending: JobExit) -> Decision:
    """The decision; a pure function, so that each case can be tested without a Slurm."""
    new = ending.began > ending.before
    if ending.done and (new or not ending.code):
        return Decision(False, f"the run is finished ({ending.done})")
    if ending.outside:
        saved = f"saved ({ending.stopped})" if new and ending.stopped else "not saved since the newest checkpoint"
        if ending.outside == REQUEUED:
            return Decision(True, f"Slurm has put the job back into its queue; {saved}")
        return Decision(False, f"the job was ended from outside ({ending.outside}); {saved}, sbatch again to go on")
    if new and ending.stopped:
        # The batch script's own wish is the file STOP too.
        wanted = ": stop_at " in ending.stopped or (ending.stopped.endswith(": STOP") and not ending.asked)
        if wanted:
            return Decision(False, f"saved and stopped as wished ({ending.stopped}); sbatch again to go on")
        return Decision(True, f"saved ({ending.stopped})")
    if ending.asked and not new and max(ending.restarts, starts_without_progress(ending.history)) < MAX_STARTS:
        return Decision(True, f"{ending.asked} came before the program had begun")
    if not ending.code:
        return Decision(False, "the program ended without a training")
    if not new and ending.refusal:
        return Decision(False, f"the program refused to begin, and would again: {ending.refusal}")
    if not ending.began:
        return Decision(False, f"the program never began (exit code {ending.code}); the reason stands above")
    what = f"ended with exit code {ending.code}" if not ending.asked else f"did not save in time after {ending.asked}"
    return _after_a_crash(ending, what)


def _after_a_crash(ending: JobExit, what: str) -> Decision:
    """Again, unless attempts lead nowhere."""
    attempts = recent_attempts(ending)
    last = attempts[-1].get("why", "") if attempts else ""
    what += f" ({last})" if last else ""
    if repeats(attempts):
        return Decision(
            False, f"two attempts in a row ended at step {attempts[-1]['reached']} by the same error: {last}"
        )
    count = sum(attempt["lost"] for attempt in attempts) + sum(
        not line.get("began", True) and line.get("newest") == ending.newest
        for line in since_the_last_end(ending.history)
    )
    count += ending.began == ending.before  # this launch, which is in neither list
    if count >= LIMIT:
        return Decision(False, f"{count} attempts in a row ended without a new checkpoint, the last one {what}")
    tries = f"{count} of {LIMIT} attempts without a new checkpoint" if count else "it had made a new checkpoint"
    return Decision(True, f"the attempt {what}; {tries}")


def starts_without_progress(history: list[dict[str, Any]]) -> int:
    """The last decisions in a row that were about a job in which the program had not begun."""
    count = 0
    for line in reversed(history):
        if line.get("began", True) or not line.get("again"):
            break
        count += 1
    return count


def since_the_last_end(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The decisions of this chain of jobs: whoever submits again after an end begins to count anew."""
    ends = [place for place, line in enumerate(history) if not line.get("again")]
    return history[ends[-1] + 1 :] if ends else history


def recent_attempts(ending: JobExit) -> list[dict[str, Any]]:
    """The attempts of this chain since the last one that left a new checkpoint.

    Each with `first` and `reached`, the steps at its beginning and end; `why`, its error; `lost`, whether it ended by
    itself without a new checkpoint.
    """
    attempts: list[dict[str, Any]] = []
    for event in ending.events:
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
    if attempts and ending.newest > attempts[-1]["first"]:
        attempts = [attempts[-1] | {"lost": False}]
    ended = [line.get("attempt", 0) for line in ending.history if not line.get("again")]
    return [attempt for attempt in attempts if attempt["number"] > max(ended, default=0)]


def repeats(attempts: list[dict[str, Any]]) -> bool:
    """Whether the last two attempts came to the same step and failed there alike: a third one would too."""
    if len(attempts) < 2:
        return False
    one, two = attempts[-2:]
    alike = all(one[key] == two[key] for key in ("reached", "why"))
    return alike and one["lost"] and two["lost"] and one["reached"] > one["first"] and bool(one["why"])


def ending_of(run_dir: Path, refusal: Path | None, **known: Any) -> JobExit:
    """Adds what the run's folder says to what the batch script knows."""
    steps = [path.name.removeprefix("step-") for path in (run_dir / "checkpoints").glob("step-*")]
    return JobExit(
        **known,
        refusal=_line(refusal) if refusal else "",
        events=_lines(run_dir / "attempts.jsonl"),
        history=_lines(run_dir / JOBS_FILE),
        newest=max((int(step) for step in steps if step.isdigit()), default=0),
        done=_line(run_dir / "DONE"),
        stopped=_line(run_dir / "STOPPED"),
    )


def _line(path: Path) -> str:
    try:
        return read_file(path).decode(errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return read_lines(path)
    except OSError:
        return []


def main(words: list[str]) -> int:
    """Prints why and returns whether the job goes on: REQUEUE or END."""
    parser = argparse.ArgumentParser(prog="python -m train.runs.requeue", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--code", type=int, required=True)
    parser.add_argument("--asked", default="")
    parser.add_argument("--outside", default="")
    parser.add_argument("--refusal", type=Path)
    parser.add_argument("--before", type=int, default=0)
    parser.add_argument("--restarts", type=int, default=0)
    parser.add_argument("--job", default="")
    given = vars(parser.parse_args(words))
    run_dir, job = given.pop("run_dir"), given.pop("job")
    ending = ending_of(run_dir, **given)
    decision = decide(ending)
    if (run_dir / "run.json").exists():  # another folder must stay as it is
        line = {
            "time": round(time.time(), 3),
            "job": job,
            "attempt": ending.began,
            "began": ending.began > ending.before,
            "newest": ending.newest,
            "again": decision.again,
            "why": decision.why,
        }
        with suppress(OSError):  # a full disk changes no decision
            append_line(run_dir / JOBS_FILE, line)
    print(decision.why)
    return REQUEUE if decision.again else END


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
