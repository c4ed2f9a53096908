"""The checks of a training under faults. Each returns a list of problems, empty if there are none."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from audiovae.saved.prior_folder import AUTOENCODER
from benchmarks.faults.observation import newest_intact
from benchmarks.faults.plan import GRACEFUL
from benchmarks.faults.runner import Outcome
from benchmarks.faults.target import ROOT, environment
from shards.files import read_lines
from train.runs import checkpoint
from train.runs.record import RECORD_FILE
from train.runs.run_folder import METRICS_FILE, RunDir
from train.tracking.wandb_run import offline_parts, steps_of_part

# Prefixes of the metrics that must equal those of the reference run; the others measure time.
SAME = ("loss/", "model/", "optim/", "valid/", "weight/", "samples_seen")
MAX_REPORTED = 5


def all_checks(
    run: Path, reference: Path, steps: int, sets: Sequence[int], batch: int, outcomes: Sequence[Outcome]
) -> dict[str, list[str]]:
    """Runs every check; returns the problems by the name of the check.

    Args:
        run: The folder of the run under faults.
        reference: The folder of the same run without faults.
        steps: Optimizer steps of both.
        sets: Chunks of an epoch, of each data set.
        batch: Chunks of a step.
        outcomes: The outcomes of the faults.
    """
    return {
        "final weights and optimizer equal those of the reference run": weights(run, reference),
        "every chunk is used once per epoch": samples(run, steps, sets, batch),
        "no fault costs more steps than allowed": losses(outcomes),
        "metrics.jsonl has each step once, with the values of the reference run": points(run, reference, steps),
        "the W&B run has each step once": wandb_points(run, steps),
        "status lists each attempt and why it ended": status_problems(run, outcomes),
    }


def weights(run: Path, reference: Path) -> list[str]:
    """Compares every file of the last checkpoint but the record of its run, and the exported model."""
    one, two = (folder / "checkpoints" / f"step-{newest_intact(folder):08d}" for folder in (reference, run))
    if one.name != two.name:
        return [f"the last intact checkpoint is {two.name}, not {one.name}"]
    problems = [f"{path}: {damage}" for path in (one, two) if (damage := checkpoint.damage(path))]
    hashes = [json.loads((path / "manifest.json").read_text())["files"] for path in (one, two)]
    names = sorted((hashes[0].keys() | hashes[1].keys()) - {RECORD_FILE})
    problems += [f"{two.name}/{name} differs" for name in names if hashes[0].get(name) != hashes[1].get(name)]
    # A prior has copies of its autoencoder, in the run and beside the model. Cards differ, because they name the run.
    places = [reference / name for name in ("model", AUTOENCODER)]
    files = [file for place in places for what in ("*.safetensors", "config.json") for file in place.rglob(what)]
    for name in sorted(file.relative_to(reference) for file in files):
        other = run / name
        if not other.exists() or other.read_bytes() != (reference / name).read_bytes():
            problems.append(f"{name} differs")
    return problems


def samples(run: Path, steps: int, sets: Sequence[int], batch: int) -> list[str]:
    """Checks the logged samples: a repeated step has the same chunks, and an epoch of a set has each chunk once."""
    made: dict[int, dict[int, int]] = {}
    problems = []
    for file in sorted((run / "samples").glob("rank-*.jsonl")):
        own: dict[int, tuple] = {}
        for row in read_lines(file):
            pairs = tuple(zip(row["rows"], row["chunks"], strict=True))
            if own.setdefault(row["step"], pairs) != pairs:
                problems.append(f"{file.name}: step {row['step']} was repeated with other chunks")
        for step, pairs in own.items():
            for place, chunk in pairs:
                if place in made.setdefault(step, {}):
                    problems.append(f"step {step}: two ranks took row {place}")
                made[step][place] = chunk
    if sorted(made) != list(range(1, steps + 1)):
        problems.append(f"the steps are not 1 to {steps}")
        return problems
    problems += [f"step {step}: rows are missing" for step in made if sorted(made[step]) != list(range(batch))]
    if problems:
        return problems
    if len(sets) > 1:
        return problems + epochs_of_sets(
            [made[step][row] for step in range(1, steps + 1) for row in range(batch)], sets
        )
    return problems + epochs_of_one([[*made[step].values()] for step in range(1, steps + 1)], sets[0], batch)


def epochs_of_sets(taken: Sequence[int], sets: Sequence[int]) -> list[str]:
    """Checks that each of several sets was gone through again and again: its chunks, in the order of training."""
    problems = []
    begin = 0
    for number, count in enumerate(sets):
        own = [chunk for chunk in taken if begin <= chunk < begin + count]
        for first in range(0, len(own), count):
            part = own[first : first + count]
            if len({*part}) < len(part):
                problems.append(f"set {number}, epoch {first // count}: a chunk more than once")
        begin += count
    if not all(0 <= chunk < begin for chunk in taken):
        problems.append("a chunk is of no set")
    return problems


def epochs_of_one(made: Sequence[Sequence[int]], chunks: int, batch: int) -> list[str]:
    """Checks that each epoch of the only set has each chunk once; what is less than a batch at its end is left out."""
    problems = []
    steps, an_epoch = len(made), chunks // batch
    for first in range(1, steps + 1, an_epoch):
        part = range(first, min(first + an_epoch, steps + 1))
        often = Counter(chunk for step in part for chunk in made[step - 1])
        if wrong := [chunk for chunk, count in often.items() if count > 1 or not 0 <= chunk < chunks]:
            problems.append(f"steps {part[0]} to {part[-1]}, an epoch: chunk {wrong[0]} more than once, or unknown")
        elif len(part) == an_epoch and len(often) != an_epoch * batch:
            problems.append(f"steps {part[0]} to {part[-1]}, an epoch: {len(often)} of {an_epoch * batch} chunks")
    return problems


def losses(outcomes: Sequence[Outcome]) -> list[str]:
    """Compares the steps lost with what each fault may cost."""
    return [
        f"fault {number} ({outcome.fault.kind}) cost {outcome.lost} steps, {outcome.allowed} are allowed"
        for number, outcome in enumerate(outcomes, start=1)
        if not 0 <= outcome.lost <= outcome.allowed
    ]


def points(run: Path, reference: Path, steps: int) -> list[str]:
    """Compares metrics.jsonl line by line."""
    lines = (run / METRICS_FILE).read_text().splitlines()
    rows, expected = (read_lines(folder / METRICS_FILE) for folder in (run, reference))
    problems = [f"{len(lines) - len(rows)} lines are incomplete"] if len(lines) != len(rows) else []
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
    """Checks the steps of all offline parts with W&B's own reader."""
    often = Counter(step for part in offline_parts(RunDir.open(run)) for step in steps_of_part(part))
    missing = [step for step in range(steps + 1) if not often[step]]
    repeated = [step for step, count in often.items() if count > 1]
    unknown = [step for step in often if not 0 <= step <= steps]
    problems = {"missing": missing, "more than once": repeated, "of no step": unknown}
    return [f"{len(found)} points {what}: {found[:MAX_REPORTED]}" for what, found in problems.items() if found]


def status_problems(run: Path, outcomes: Sequence[Outcome]) -> list[str]:
    """Compares `python -m train status RUN_DIR --json` with what happened."""
    command = [sys.executable, "-m", "train", "status", str(run), "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment("status"), capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"status failed: {(done.stderr.splitlines() or ['no output'])[-1]}"]
    summary = json.loads(done.stdout)
    problems = [] if summary["state"] == "finished" else [f"the run is {summary['state']}"]
    attempts = {attempt["number"]: attempt for attempt in summary["attempts"]}
    if [*attempts] != list(range(1, len(attempts) + 1)):
        problems.append("attempts are not numbered 1, 2, ...")
    problems += [f"attempt {number} has no reason for its end" for number in attempts if not attempts[number]["why"]]
    for outcome in outcomes:
        if outcome.attempt is None:
            continue
        found = attempts.get(outcome.attempt)
        if found is None or found["first"] != outcome.start:
            problems.append(f"attempt {outcome.attempt} from step {outcome.start} is missing")
        elif outcome.fault.kind in GRACEFUL and found["lost"]:
            problems.append(f"attempt {outcome.attempt} was stopped gracefully and lost {found['lost']} steps")
    return problems
