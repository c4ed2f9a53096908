"""What training jobs are for: runs that come to their end, on a real Slurm. The scenarios run beside each other."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from beside import beside
from jobs import CPU, ENDLESS, Desk
from slurm_cluster import HOME, until

pytestmark = pytest.mark.slow(area="slurm")

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed: pip install '.[deepspeed]'"
)


def curve(run: Path) -> list[dict]:
    """The points, without times and the numbers of attempts."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if k not in ("time", "attempt", "crc32") and not k.startswith("perf/")}
        for row in rows
    ]


def consumed(run: Path) -> dict[int, list[int]]:
    """The chunks of each step, in the order of the batch's rows."""
    steps: dict[int, dict[int, int]] = {}
    for file in (run / "samples").glob("rank-*.jsonl"):
        for line in map(json.loads, file.read_text().splitlines()):
            steps.setdefault(line["step"], {}).update(zip(line["rows"], line["chunks"], strict=True))
    return {step: [rows[row] for row in sorted(rows)] for step, rows in sorted(steps.items())}


@beside
def test_time_limit(desk: Desk):
    """A run longer than its jobs may be: it ends as one that was never interrupted, with the same curve and samples."""
    more = ["--optim.steps", "100000", "--tracking.samples", "true", "--tracking.every", "1"]
    more += ["--tracking.evaluate_every", "50", "--checkpoint.every", "100000"]
    # The signal comes 60 s before the limit, or up to half a minute earlier.
    job = desk.train("limited", *more, slurm=[*CPU, "--time=60", "--signal=B:USR2@60"])
    job.begun(1)
    job.ends_in(120)
    with job.slowed():
        until(lambda: job.lives == 2, job.told)
    job.gets_an_hour()
    job.begun(2)
    # A stop before the first step of an attempt ends it at once, and there would be nothing to compare.
    until(lambda: curve(job.run)[-1]["step"] > job.attempts()[1]["step"], job.told)
    job.stop()
    assert "STOP" in job.attempts("ended")[0]["reason"]
    assert "requeueing" in job.log
    last = job.attempts("ended")[1]["step"]
    assert 0 < job.attempts("ended")[0]["step"] == job.attempts()[1]["step"] < last
    # What is compared stopped at the same step, without a stop before.
    straight = desk.train("straight", *more, "--stop_at", last)
    assert straight.over() == "COMPLETED", straight.told()
    assert straight.lives == 1
    assert consumed(job.run) == consumed(straight.run)
    assert len(consumed(job.run)) == last
    assert [*map(curve, [job.run])] == [*map(curve, [straight.run])]


@beside
def test_time_is_up_without_a_warning(desk: Desk):
    """Where the signal comes too late or not at all, another job is there before this one is killed."""
    job = desk.train("late", *ENDLESS, "--checkpoint.every", "1000000", slurm=[*CPU, "--time=60", "--signal=B:CONT@1"])
    job.begun(1)
    job.ends_in(8)
    assert job.over() == "TIMEOUT"
    (first,) = job.decisions()
    assert first["again"]
    job.number = desk.cluster.inside("squeue", "-h", "--name=late", "-o", "%i").strip()
    job.gets_an_hour()  # the script's own --signal comes two minutes before the limit
    job.begun(2)
    desk.cluster.inside("scancel", job.number)
    assert "continues when this one has ended" in job.log


@beside
def test_two_nodes_by_two_processes(desk: Desk):
    """Shards by an array job, and a training that waits for it: ranks where they belong, one log."""
    audio, shards = desk.folder / "audio", desk.folder / "shards-of-array"
    build = [HOME / "slurm/shard.sh", audio, shards, "--samples", 2205, "--hop", 2205, "--valid", 0.25]
    slurm = ["--array=1-2", "--cpus-per-task=1", "--job-name=shards"]
    array = desk.sbatch(*slurm, *build, AUDIO_TRAIN_HOME=str(HOME))
    slurm = [f"--dependency=afterok:{array}", "--nodes=2", "--gpus-per-node=2", "--cpus-per-task=2"]
    job = desk.train("nodes", "--tracking.samples", "true", family="hvae", slurm=slurm, data=shards)
    assert job.over() == "COMPLETED", job.told()
    nodes = desk.cluster.inside("scontrol", "show", "hostnames", desk.cluster.facts(job.number)["NodeList"]).split()
    assert f"4 processes on cpu: {nodes[0]} (0, 1), {nodes[1]} (2, 3)" in job.log
    assert job.log.count("M parameters") == 1, "one greeting in one log"
    assert (job.run / "DONE").exists()
    assert len(list((job.run / "samples").iterdir())) == 4
    assert {len(rows) for rows in consumed(job.run).values()} == {6}
    assert [*desk.folder.glob("slurm-nodes-*")] == [job.log_file]


@beside
@needs_deepspeed
def test_deepspeed_over_nodes(desk: Desk):
    """The same script with the launcher's flags; it goes on by DDP on one node."""
    zero = {"AUDIO_TRAIN_LAUNCH": "--use_deepspeed --zero_stage 3"}
    job = desk.train("zero", "--stop_at", 4, slurm=["--nodes=2", *CPU], **zero)
    assert job.over() == "COMPLETED", job.told()
    assert "2 processes on cpu: n" in job.log
    again = desk.train("alone", run=job.run, slurm=CPU)
    assert again.over() == "COMPLETED", again.told()
    assert "from step 4" in again.log
    assert (job.run / "DONE").exists()


@beside
def test_two_jobs_on_the_same_nodes(desk: Desk):
    """At once, each over both nodes: they do not meet."""
    slurm = ["--nodes=2", "--nodelist=n5,n6", *CPU]
    jobs = [desk.train(f"neighbour-{seed}", *ENDLESS, "--seed", seed, slurm=slurm) for seed in (1, 2)]
    for job in jobs:
        job.begun(1, steps=5)
        assert "2 processes on cpu: n5 (0), n6 (1)" in job.log
    for job in jobs:
        job.stop()
        assert job.lives == 1
    assert curve(jobs[0].run)[:3] != curve(jobs[1].run)[:3]


@beside
def test_array_of_seeds(desk: Desk):
    """Two runs by one command."""
    slurm = ["--array=0-1", *CPU]
    job = desk.train("seeds", "--seed", "%a", run=desk.folder / "runs" / "seed-%a", slurm=slurm)
    runs = [desk.folder / "runs" / f"seed-{seed}" for seed in range(2)]
    until(lambda: all((run / "DONE").exists() for run in runs), job.told)
    assert [json.loads((run / "run.json").read_text())["config"]["seed"] for run in runs] == [0, 1]
    assert len({json.dumps(curve(run)[-1]) for run in runs}) == 2


@beside
def test_errors_of_the_user(desk: Desk):
    """Each ends its job with one line, and is not tried again."""
    shards = desk.data
    torn = desk.folder / "torn"
    torn.mkdir()
    for file in shards.iterdir():
        if file.is_file():
            (torn / file.name).write_bytes(file.read_bytes())
    shard = next(torn.glob("train-*.tar"))
    shard.write_bytes(shard.read_bytes()[:-45056])
    jobs = {
        "did you mean --optim.lr": desk.train("bad-flag", "--optim.ly", "1"),
        "cannot be read": desk.train("bad-venv", AUDIO_TRAIN_ENV="/nowhere/activate"),
        "/nowhere": desk.train("no-shards", data=Path("/nowhere")),
        shard.name: desk.train("torn-shard", data=torn),
    }
    for told, job in jobs.items():
        assert job.over() == "FAILED", job.told()
        assert job.lives == 1
        lines = [line for line in job.log.splitlines() if line.startswith("error")]
        assert len(lines) == 1, job.log
        assert told in lines[0]
        assert not re.search("requeueing", job.log)
        assert not (job.run / "attempts.jsonl").exists()
