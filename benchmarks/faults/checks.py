"""What must be true of a run that was attacked, each check by itself: a list of problems, empty when all is well."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.observation import newest_intact
from benchmarks.faults.plan import GENTLE
from benchmarks.faults.runner import Outcome
from benchmarks.faults.target import ROOT, environment
from shards.files import read_lines
from train.runs import checkpoint
from train.runs.run_folder import METRICS_FILE, RunDir
from train.tracking.wandb_run import offline_parts, steps_of_part

# What a point says of the run; the rest is about time.
SAME = ("loss/", "model/", "optim/", "valid/", "weight/", "samples_seen")
MAX_REPORTED = 5


def all_checks(
    run: Path, straight: Path, steps: int, chunks: int, batch: int, outcomes: Sequence[Outcome]
) -> dict[str, list[str]]:
    """Every check by its name.

    Args:
        run: The folder of the run that was attacked.
        straight: That of the same run, left in peace.
        steps: Of both.
        chunks: In an epoch.
        batch: Chunks in a step.
        outcomes: Of the attacks.
    """
    return {
        "final weights and optimizer are those of the straight run": weights(run, straight),
        "every chunk is consumed once an epoch": samples(run, steps, chunks, batch),
        "no attack costs more steps than it may": losses(outcomes),
        "metrics.jsonl has each step once, with the straight run's values": points(run, straight, steps),
        "the W&B run has each step once": wandb_points(run, steps),
        "status names each attempt and its end": status_problems(run, outcomes),
    }


def weights(run: Path, straight: Path) -> list[str]:
    """Every tensor of the last checkpoint, and the exported model."""
    one, two = (folder / "checkpoints" / f"step-{newest_intact(folder):08d}" for folder in (straight, run))
    if one.name != two.name:
        return [f"the last sound checkpoint is {two.name}, not {one.name}"]
    problems = [f"{path}: {damage}" for path in (one, two) if (damage := checkpoint.damage(path))]
    hashes = [json.loads((path / "manifest.json").read_text())["files"] for path in (one, two)]
    names = sorted(hashes[0].keys() | hashes[1].keys())
    problems += [f"{two.name}/{name} differs" for name in names if hashes[0].get(name) != hashes[1].get(name)]
    model = straight / "model"
    # The card beside them names the run.
    for file in sorted([*model.glob("*.safetensors"), model / "config.json"]):
        other = run / "model" / file.name
        if not other.exists() or other.read_bytes() != file.read_bytes():
            problems.append(f"model/{file.name} differs")
    return problems


def samples(run: Path, steps: int, chunks: int, batch: int) -> list[str]:
    """What the ranks noted: a step that was made again had the same chunks, and an epoch has each chunk once."""
    made: dict[int, dict[int, int]] = {}
    problems = []
    for file in sorted((run / "samples").glob("rank-*.jsonl")):
        own: dict[int, tuple] = {}
        for row in read_lines(file):
            pairs = tuple(zip(row["rows"], row["chunks"], strict=True))
            if own.setdefault(row["step"], pairs) != pairs:
                problems.append(f"{file.name}: step {row['step']} was made again with other chunks")
        for step, pairs in own.items():
            for place, chunk in pairs:
                if place in made.setdefault(step, {}):
                    problems.append(f"step {step}: two ranks took row {place}")
                made[step][place] = chunk
    if sorted(made) != list(range(1, steps + 1)):
        problems.append(f"the steps are not 1 to {steps}")
        return problems
    problems += [f"step {step}: rows are missing" for step in made if sorted(made[step]) != list(range(batch))]
    an_epoch = chunks // batch
    for first in range(1, steps + 1, an_epoch):
        part = range(first, min(first + an_epoch, steps + 1))
        often = Counter(chunk for step in part for chunk in made[step].values())
        if wrong := [chunk for chunk, count in often.items() if count > 1 or not 0 <= chunk < chunks]:
            problems.append(f"steps {part[0]} to {part[-1]}, an epoch: chunk {wrong[0]} more than once, or unknown")
        elif len(part) == an_epoch and len(often) != an_epoch * batch:
            problems.append(f"steps {part[0]} to {part[-1]}, an epoch: {len(often)} of {an_epoch * batch} chunks")
    return problems


def losses(outcomes: Sequence[Outcome]) -> list[str]:
    """Steps lost, against what each attack may cost."""
    return [
        f"attack {number} ({outcome.attack.kind}) cost {outcome.lost} steps, {outcome.allowed} are allowed"
        for number, outcome in enumerate(outcomes, start=1)
        if not 0 <= outcome.lost <= outcome.allowed
    ]


def points(run: Path, straight: Path, steps: int) -> list[str]:
    """metrics.jsonl, line by line."""
    lines = (run / METRICS_FILE).read_text().splitlines()
    rows, expected = (read_lines(folder / METRICS_FILE) for folder in (run, straight))
    problems = [f"{len(lines) - len(rows)} lines are cut short"] if len(lines) != len(rows) else []
    if [row["step"] for row in rows] != list(range(steps + 1)):
        often = Counter(row["step"] for row in rows)
        wrong = [step for step in range(steps + 1) if often[step] != 1]
        return [*problems, f"the steps are not 0 to {steps} in order, each once: {wrong[:MAX_REPORTED]}"]
    for row, other in zip(rows, expected, strict=True):
        one, two = ({k: v for k, v in r.items() if k.startswith(SAME)} for r in (row, other))
        if one != two:
            names = sorted(k for k in one.keys() | two.keys() if one.get(k) != two.get(k))
            problems.append(f"step {row['step']}: {', '.join(names)} differ")
    return problems


def wandb_points(run: Path, steps: int) -> list[str]:
    """All offline parts together, by W&B's own reader."""
    often = Counter(step for part in offline_parts(RunDir.open(run)) for step in steps_of_part(part))
    missing = [step for step in range(steps + 1) if not often[step]]
    repeated = [step for step, count in often.items() if count > 1]
    unknown = [step for step in often if not 0 <= step <= steps]
    told = {"missing": missing, "more than once": repeated, "of no step": unknown}
    return [f"{len(found)} points {what}: {found[:MAX_REPORTED]}" for what, found in told.items() if found]


def status_problems(run: Path, outcomes: Sequence[Outcome]) -> list[str]:
    """`python -m train status RUN_DIR --json` beside what happened."""
    command = [sys.executable, "-m", "train", "status", str(run), "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment("status"), capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"status failed: {(done.stderr.splitlines() or ['no word'])[-1]}"]
    summary = json.loads(done.stdout)
    problems = [] if summary["state"] == "finished" else [f"the run is {summary['state']}"]
    attempts = {attempt["number"]: attempt for attempt in summary["attempts"]}
    if [*attempts] != list(range(1, len(attempts) + 1)):
        problems.append("attempts are not numbered 1, 2, ...")
    problems += [f"attempt {number} ended for no reason" for number in attempts if not attempts[number]["why"]]
    for outcome in outcomes:
        if outcome.attempt is None:
            continue
        found = attempts.get(outcome.attempt)
        if found is None or found["first"] != outcome.start:
            problems.append(f"attempt {outcome.attempt} from step {outcome.start} is not told")
        elif outcome.attack.kind in GENTLE and found["lost"]:
            problems.append(f"attempt {outcome.attempt} was asked to stop and lost {found['lost']} steps")
    return problems
