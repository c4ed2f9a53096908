"""The status of a run from its attempts.jsonl and metrics.jsonl."""

import fcntl
import json

from tests.train.conftest import STEPS, train
from train.runs.forecast import duration
from train.runs.status import attempts_of, goodput, is_locked


def event(kind, attempt, time, **more):
    return {"event": kind, "attempt": attempt, "time": time, **more}


STARTED = {"world": 4, "job": "77", "epoch": 0, "consumed": 0, "batch": 10, "seed": 0}
# Stopped by the time limit at 200; killed at 340 when 300 was saved; an error at 350; under way at 400.
EVENTS = [
    event("started", 1, 1000.0, step=0, **STARTED),
    event("ended", 1, 1220.0, reason="SIGUSR2", step=200),
    event("started", 2, 2000.0, step=200, **STARTED),
    event("crashed", 2, 3000.0, reason="killed", step=340, seen=2150.0),
    event("started", 3, 3000.0, step=300, **STARTED),
    event("failed", 3, 3060.0, reason="disk full", step=350),
    event("started", 4, 4000.0, step=350, **STARTED),
]
ROWS = [
    {"step": step, "attempt": 4, "time": 4000.0 + step, "perf/chunks_per_second": 10.0} for step in range(360, 401, 10)
]


def test_attempts_steps_lost_and_goodput():
    attempts = attempts_of(EVENTS, ROWS)
    assert [(a.first, a.reached, a.lost) for a in attempts] == [
        (0, 200, 0),
        (200, 340, 40),
        (300, 350, 0),
        (350, 400, 0),
    ]
    assert [a.why for a in attempts] == ["SIGUSR2", "killed", "error: disk full", ""]
    assert [a.ended - a.began for a in attempts] == [220, 150, 60, 400]
    # 200 + 100 + 50 + 50 steps of 1 s were kept in 830 s.
    assert goodput(attempts, ROWS, 10) == 400 / 830
    assert goodput(attempts, [], 10) is None
    assert goodput([], ROWS, 10) is None


def test_a_run_killed_before_its_first_point_has_lost_nothing():
    (attempt,) = attempts_of(EVENTS[:1], [])
    assert (attempt.reached, attempt.lost, attempt.why) == (0, 0, "")


def test_durations_are_short():
    assert [duration(s) for s in (3, 119, 120, 7200, 86400, 200000)] == [
        "3 s",
        "119 s",
        "2 min",
        "2.0 h",
        "24.0 h",
        "2.3 d",
    ]


def test_a_lock_is_seen(tmp_path):
    assert not is_locked(tmp_path / "lock")
    with open(tmp_path / "lock", "w") as file:
        assert not is_locked(tmp_path / "lock")
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_locked(tmp_path / "lock")


def test_the_command_on_a_finished_run(straight, tmp_path):
    run = straight("vae")
    summary = json.loads(train(["status", str(run), "--json"]))
    assert (summary["state"], summary["step"], summary["steps"], summary["steps_lost"]) == ("finished", STEPS, STEPS, 0)
    assert 0 < summary["goodput"] <= 1
    assert summary["checkpoints"]["newest"] == STEPS
    assert summary["checkpoints"]["best"] in summary["checkpoints"]["steps"]
    out = train(["status", str(run)])
    assert "finished, step 8 of 8" in out
    assert "of the attempts' time went into steps that were kept; 0 steps were repeated or lost" in " ".join(
        out.split()
    )
    assert "newest checkpoint: step 8" in out
    assert "run.json" in train(["status", str(tmp_path)], code=1)
