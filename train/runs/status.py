"""`python -m train status RUN_DIR`: a run's attempts, checkpoints, and how its time was spent."""

import fcntl
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shards.files import open_regular
from shards.text import printable
from train.config import phase_start_of
from train.optim.ranking import ranked_by
from train.runs.checkpoint import all_checkpoints, best_checkpoint, step_of
from train.runs.forecast import duration, forecast
from train.runs.lines import PACE, read_decisions, read_events, read_points, seconds_of_a_save
from train.runs.requeue import ATTEMPTS_FILE, JOBS_FILE
from train.runs.run_folder import METRICS_FILE, PREFLIGHT_FILE, RunDir
from train.runs.settings_history import Change

# Newest values of the adversarial phase, with their names in words.
SCORES = {
    "adversarial/real_score": "of training recordings",
    "adversarial/fake_score": "of their reconstructions",
    "valid/real_score": "of held-out recordings",
    "valid/fake_score": "of theirs",
}


# Before the name of one of several data sets.
EPOCHS = "data/epochs_"


@dataclass
class Attempt:
    """One attempt at a run, from the start of its processes to their end.

    Attributes:
        number: Counted from 1.
        job: Slurm's job id; empty outside of Slurm.
        world: Number of processes.
        began: Unix time of the start.
        ended: Unix time of the end, or of the last line it wrote.
        why: Reason for the end; empty when it is not known.
        first: Steps done at the start.
        reached: Steps done at the end, as far as is known.
        kept: The step up to which later attempts continued from this one.
        batch: Chunks in a step; 0 when it is not recorded.
    """

    number: int
    job: str
    world: int
    began: float
    ended: float
    why: str
    first: int
    reached: int
    kept: int
    batch: int = 0

    @property
    def lost(self) -> int:
        """Steps that had to be repeated."""
        return self.reached - self.kept


def attempts_of(events: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[Attempt]:
    """The attempts in the lines of attempts.jsonl; the lines of metrics.jsonl complete the last one."""
    attempts: list[Attempt] = []
    for event in events:
        if event.get("event") == "started":
            first = event.get("step", 0)
            if attempts:
                attempts[-1].kept = min(attempts[-1].reached, first)
            number, job, world = event.get("attempt", 0), event.get("job", ""), event.get("world", 0)
            began = event.get("time", attempts[-1].ended if attempts else 0.0)
            attempts.append(Attempt(number, job, world, began, began, "", first, first, first))
            attempts[-1].batch = event.get("batch", 0)
        elif attempts:
            last = attempts[-1]
            last.ended = event.get("seen", event.get("time", last.ended))
            reason = event.get("reason", "unknown")
            last.why = reason if event.get("event") != "failed" else f"error: {reason}"
            last.reached = last.kept = max(event.get("step", 0), last.first)
    if attempts and not attempts[-1].why:
        own = [row for row in rows if row.get("attempt") == attempts[-1].number]
        if own:
            attempts[-1].ended = own[-1].get("time", attempts[-1].ended)
            attempts[-1].reached = attempts[-1].kept = max(own[-1]["step"], attempts[-1].first)
    return attempts


def goodput(attempts: list[Attempt], rows: list[dict[str, Any]], batch: int) -> float | None:
    """The share in [0, 1] of all attempts' time spent on steps that were kept; None before the first point.

    The rest is start-up, evaluation, waiting for saves, and repeated steps. The time of a step is `batch` divided by
    the median of `perf/chunks_per_second`.
    """
    rates = [row[PACE] for row in rows if row.get(PACE)]
    spent = sum(attempt.ended - attempt.began for attempt in attempts)
    if not rates or spent <= 0:
        return None
    chunks = sum((attempt.kept - attempt.first) * (attempt.batch or batch) for attempt in attempts)
    return min(1.0, chunks / median(rates) / spent)


def summary_of(run: RunDir, now: float) -> dict[str, Any]:
    """The content of `status --json` at the Unix time `now`."""
    rows = read_points(run.path / METRICS_FILE)
    attempts = attempts_of(read_events(run.path / ATTEMPTS_FILE), rows)
    running = is_locked(run.path / "lock")
    checkpoints = all_checkpoints(run.path / "checkpoints")
    by = ranked_by(run.config)
    best = best_checkpoint(run.path / "checkpoints", by)
    done = run.done
    batch, every = run.config["data.batch"], run.config["checkpoint.every"]
    step = attempts[-1].reached if attempts else 0
    saved = step_of(checkpoints[0]) if checkpoints else None
    rate = rows[-1].get(PACE) if rows else None
    due = (saved or 0) + every - step
    jobs = [job for job in read_decisions(run.path / JOBS_FILE) if {"job", "again", "why"} <= job.keys()]
    left = run.config["optim.steps"] - step
    ahead = forecast(left, batch / rate, every, seconds_of_a_save(run.path / PREFLIGHT_FILE)) if rate else None
    return {
        "run": str(run.path),
        "family": run.family,
        "state": state_of(run, attempts, running),
        "step": step,
        "steps": run.config["optim.steps"],
        "started_from": run.record.started_from,
        "diverged": done.diverged if done else "",
        "ended_early": done.early if done else "",
        "adversarial": phase_of(run, rows, step),
        "epochs_of_sets": epochs_of_sets(rows),
        "parent": run.record.parent,
        "changes": [change.to_json() for change in run.changes],
        "damaged_lines": run.damaged_lines(),
        "goodput": goodput(attempts, rows, batch),
        "steps_lost": sum(attempt.lost for attempt in attempts),
        "job": jobs[-1] if jobs else None,
        "attempts": [{**asdict(attempt), "lost": attempt.lost} for attempt in attempts],
        "checkpoints": {
            "newest": saved,
            "age_s": now - checkpoints[0].stat().st_mtime if checkpoints else None,
            "bytes": [sum(file.stat().st_size for file in path.iterdir()) for path in checkpoints],
            "steps": [step_of(path) for path in checkpoints],
            "best": step_of(best) if best else None,
            "best_by": by,
            "damaged": sorted(path.name for path in (run.path / "checkpoints").glob("damaged-*")),
        },
        "left_s": ahead.seconds if ahead else None,
        "lead_s": ahead.lead_s if ahead else None,
        "next_save_s": max(0.0, due * batch / rate) if running and rate else None,
    }


def epochs_of_sets(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How often each of several data sets has been gone through, by its name; empty for one set."""
    newest: dict[str, Any] = next((row for row in reversed(rows) if any(name.startswith(EPOCHS) for name in row)), {})
    return {name.removeprefix(EPOCHS): value for name, value in newest.items() if name.startswith(EPOCHS)}


def phase_of(run: RunDir, rows: list[dict[str, Any]], step: int) -> dict[str, Any] | None:
    """The adversarial phase of a run after `step` steps; None without one.

    Returns:
        `start`, its first step; `begun`; and `scores`, the newest of those in SCORES.
    """
    start = phase_start_of(run.config)
    if start is None:
        return None
    scores = {name: row[name] for row in rows if row["step"] > start for name in SCORES if name in row}
    return {"start": start, "begun": step >= start, "scores": scores}


def state_of(run: RunDir, attempts: list[Attempt], running: bool) -> str:
    """The run's state: running, finished, new, crashed, failed or stopped."""
    if running:
        return "running"
    if run.finished_at is not None:
        return "finished"
    if not attempts:
        return "new"
    why = attempts[-1].why
    return "crashed" if why in ("", "killed") else "failed" if why.startswith("error") else "stopped"


def is_locked(path: Path) -> bool:
    """Whether a training process holds the run's folder."""
    try:
        with open(open_regular(path)) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def status(settings: Any) -> int:
    """Prints the state of a run; returns the exit code."""
    summary = summary_of(RunDir.open(settings.run_dir), time.time())
    if settings.json:
        json.dump(summary, sys.stdout, indent=1)
        print()
    else:
        show(summary)
    return 0


def show(summary: dict[str, Any]) -> None:
    """Prints the summary as text and a table."""
    console = Console(soft_wrap=True, highlight=False)

    def say(text: str) -> None:
        """Prints a line whose parts may be a stranger's."""
        console.print(Text(printable(text)))

    percent = 100 * summary["step"] / summary["steps"]
    say(
        f"{summary['run']}: {summary['family']}, {summary['state']}, step {summary['step']:,} of "
        f"{summary['steps']:,} ({percent:.1f} %)"
    )
    if summary["diverged"]:
        say(f"warning: {summary['diverged']}")
    if summary["ended_early"]:
        say(f"finished early: {summary['ended_early']}")
    if phase := summary["adversarial"]:
        say(phase_line(phase))
    if summary["goodput"] is not None:
        say(
            f"goodput: {100 * summary['goodput']:.1f} % of the attempts' time went into steps that were kept; "
            f"{summary['steps_lost']:,} steps were repeated or lost"
        )
    table = Table()
    for column in ("attempt", "job", "processes", "started", "took", "steps", "lost", "ended by"):
        table.add_column(column, justify="left" if column in ("job", "ended by") else "right")
    for attempt in summary["attempts"]:
        table.add_row(
            Text(printable(attempt["number"])),
            Text(printable(attempt["job"])),
            Text(printable(attempt["world"])),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(attempt["began"])),
            duration(attempt["ended"] - attempt["began"]),
            f"{attempt['first']:,} to {attempt['reached']:,}",
            f"{attempt['lost']:,}",
            Text(printable(attempt["why"] or summary["state"])),
        )
    console.print(table)
    if summary["started_from"]:
        say(f"started from {summary['started_from'].get('path', 'another model')}")
    if parent := summary["parent"]:
        say(f"a copy of run {parent.get('run_id')} in {parent.get('path')}, from step {parent.get('step')} on")
    for change in summary["changes"]:
        say(f"settings changed {Change.from_json(change)}")
    for name, count in summary["damaged_lines"].items():
        say(
            f"warning: {name}: {count:,} line{'s are' if count > 1 else ' is'} damaged and left out; "
            "restore the file from a backup, or go on without"
        )
    if job := summary["job"]:
        say(f"job {job['job']} {'continues' if job['again'] else 'ended'}: {job['why']}")
    if summary["left_s"] and summary["state"] != "finished":
        say(
            f"about {duration(summary['left_s'])} of training left; stopping takes up to "
            f"{summary['lead_s'] / 2:.0f} s: for batch jobs use sbatch --signal=B:USR2@{summary['lead_s']} or more"
        )
    if epochs := summary["epochs_of_sets"]:
        say("data sets: " + ", ".join(f"{name} {count:.2f} epochs" for name, count in epochs.items()))
    saved = summary["checkpoints"]
    if saved["newest"] is None:
        say("no checkpoint yet")
        return
    total = sum(saved["bytes"]) / 1e6
    line = f"newest checkpoint: step {saved['newest']:,}, {duration(saved['age_s'])} old; "
    line += f"{len(saved['steps'])} checkpoints, {total:,.0f} MB"
    by = "" if saved["best_by"] == "si_sdr" else f" by {saved['best_by']}"
    line += f"; best{by}: step {saved['best']:,}" if saved["best"] is not None else ""
    line += f"; next in about {duration(summary['next_save_s'])}" if summary["next_save_s"] is not None else ""
    say(line)
    if saved["damaged"]:
        say(f"damaged checkpoints: {', '.join(saved['damaged'])}")


def phase_line(phase: dict[str, Any]) -> str:
    """The adversarial phase in one line."""
    if not phase["begun"]:
        return f"the adversarial phase begins at step {phase['start']:,}"
    scores = phase["scores"]
    words = [f"{what} {scores[name]:.3f}" for name, what in SCORES.items() if name in scores]
    line = f"in the adversarial phase since step {phase['start']:,}"
    return line + (f"; newest scores: {', '.join(words)}" if words else "; no scores yet")
