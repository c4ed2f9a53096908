"""Whether a batch job is requeued, case by case."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from train.runs.requeue import JobExit, decide
from train.runs.sealed_lines import read_sealed

ROOT = Path(__file__).parents[3]


def started(attempt: int, step: int = 0) -> dict:
    return {"event": "started", "attempt": attempt, "step": step}


def failed(attempt: int, step: int, reason: str = "bang", event: str = "failed") -> dict:
    return {"event": event, "attempt": attempt, "step": step, "reason": reason}


def stopped_at_once(attempt: int) -> list[dict]:
    return [started(attempt), failed(attempt, 0, "STOP", event="ended")]


def decision(attempt: int, again: bool, began: bool = True, newest: int = 0) -> dict:
    return {"attempt": attempt, "again": again, "began": began, "newest": newest}


CASES = {
    "finished": (JobExit(0, events=[started(1)], done="step 8: finished"), False, "finished"),
    "finished, then a thread aborted": (JobExit(1, events=[started(1)], done="step 8: finished"), False, "finished"),
    "finished before": (JobExit(0, attempts_before=1, events=[started(1)], done="step 8: finished"), False, "finished"),
    "a signal": (JobExit(0, "USR2", events=[started(1)], stopped="step 3: STOP"), True, "saved (step 3: STOP)"),
    "a signal that only the program saw": (JobExit(0, events=[started(1)], stopped="step 3: SIGTERM"), True, "saved"),
    "a person touched STOP": (JobExit(0, events=[started(1)], stopped="step 3: STOP"), False, "as requested"),
    "ten times in a row a signal before the first step": (
        JobExit(0, "USR2", events=[e for i in range(1, 11) for e in stopped_at_once(i)], stopped="step 0: STOP"),
        False,
        "10 attempts in a row were stopped before their first step (step 0: STOP)",
    ),
    "nine times a signal before the first step": (
        JobExit(0, "USR2", events=[e for i in range(1, 10) for e in stopped_at_once(i)], stopped="step 0: STOP"),
        True,
        "saved (step 0: STOP)",
    ),
    "stop_at": (JobExit(0, "USR2", events=[started(1)], stopped="step 3: stop_at 3"), False, "as requested"),
    "scancel": (
        JobExit(0, "TERM", "CANCELLED, reason None", events=[started(1)], stopped="step 3: SIGTERM"),
        False,
        "Slurm ended the job (CANCELLED, reason None); saved",
    ),
    "a node died": (JobExit(143, "TERM", "requeued", events=[started(1)]), True, "Slurm has requeued the job"),
    "an old STOPPED does not count": (
        JobExit(1, attempts_before=1, events=[started(1)], stopped="step 3: STOP", user_error="no shards"),
        False,
        "no shards",
    ),
    "refused": (
        JobExit(1, user_error="unrecognized arguments"),
        False,
        "a retry would not help: unrecognized arguments",
    ),
    "--help": (JobExit(0), False, "without training"),
    "a signal before it started": (JobExit(1, "USR2"), True, "before the program had started"),
    "always preempted before it started": (JobExit(1, "USR2", restarts=10), False, "did not start"),
    "ten jobs in a row that did not start": (
        JobExit(1, "USR2", decisions=[decision(0, True, began=False)] * 10),
        False,
        "did not start",
    ),
    "time is up": (JobExit(143, "the time limit", events=[started(1)]), True, "in time after the time limit; 1 of 3"),
    "the first start fails without a message": (JobExit(1), False, "did not start (exit code 1)"),
    "a later start fails without a message": (
        JobExit(1, attempts_before=1, events=[started(1)], newest=5),
        True,
        "1 of 3",
    ),
    "a crash after a checkpoint": (JobExit(1, events=[started(1)], newest=5), True, "it had saved a checkpoint"),
    "a crash without one": (JobExit(1, events=[started(1), failed(1, 4)]), True, "(bang); 1 of 3"),
    "no save in time": (JobExit(137, "USR2", events=[started(1)]), True, "did not save in time after USR2; 1 of 3"),
    "crashes in a row": (
        JobExit(1, attempts_before=2, events=[started(1), started(2), started(3)]),
        False,
        "3 attempts in a row",
    ),
    "with progress between": (
        JobExit(1, attempts_before=3, events=[started(1), started(2), started(3, 5), started(4, 5)], newest=5),
        True,
        "2 of 3",
    ),
    "preemptions are no crashes": (
        JobExit(
            1,
            attempts_before=3,
            events=[
                *(started(1), failed(1, 0, "SIGTERM", "ended")),
                *(started(2), failed(2, 0, "STOP", "ended")),
                *(started(3), failed(3, 0, "SIGTERM", "ended")),
                started(4),
            ],
        ),
        True,
        "1 of 3",
    ),
    "starts that fail count too": (
        JobExit(
            1,
            attempts_before=2,
            events=[started(1), started(2, 5)],
            newest=5,
            decisions=[decision(1, True, newest=5), decision(2, True, newest=5), decision(2, True, False, 5)],
        ),
        False,
        "3 attempts in a row",
    ),
    "submitted again by hand": (
        JobExit(
            1,
            attempts_before=3,
            events=[started(1), started(2), started(3), started(4)],
            decisions=[decision(1, True), decision(2, True), decision(3, False)],
        ),
        True,
        "1 of 3",
    ),
    "the same error at the same step": (
        JobExit(
            1,
            attempts_before=1,
            events=[started(1, 5), failed(1, 9, "not finite"), started(2, 5), failed(2, 9, "not finite")],
            newest=5,
        ),
        False,
        "two attempts in a row ended at step 9 with the same error: not finite",
    ),
    "the same error elsewhere": (
        JobExit(
            1,
            attempts_before=1,
            events=[started(1, 5), failed(1, 8, "not finite"), started(2, 5), failed(2, 9, "not finite")],
            newest=5,
        ),
        True,
        "2 of 3",
    ),
}


@pytest.mark.parametrize(("job", "requeue", "reason"), CASES.values(), ids=CASES.keys())
def test_decision(job, requeue, reason):
    decision = decide(job)
    assert reason in decision.reason
    assert decision.requeue == requeue


def test_the_command_reads_the_folder_and_keeps_the_decision(tmp_path):
    """It needs nothing but Python: the libraries take seconds, and a job may have few."""
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "attempts.jsonl").write_text(json.dumps(started(1)) + "\n" + '{"cut sho')
    (tmp_path / "checkpoints" / "step-00000005").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-00000009.tmp").mkdir()
    words = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import train.runs.requeue as a",
    ]
    words[-1] += "; sys.exit(a.main(sys.argv[1:]))"
    words += [str(ROOT), str(tmp_path), "--code", "1", "--job", "7"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "it had saved a checkpoint" in done.stdout
    (kept,) = read_sealed(tmp_path / "jobs.jsonl")
    assert kept | {"time": 0} == {
        "time": 0,
        "job": "7",
        "attempt": 1,
        "began": True,
        "newest": 5,
        "again": True,
        "why": done.stdout.strip(),
    }


def test_a_folder_that_is_no_run_stays_as_it_is(tmp_path):
    words = [sys.executable, "-m", "train.runs.requeue", str(tmp_path), "--code", "1"]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, check=False).returncode == 3
    assert not list(tmp_path.iterdir())
