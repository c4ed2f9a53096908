"""The whole way to a prior as four jobs that wait for each other, each ended once, on a real Slurm."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import soundfile
from beside import beside
from jobs import CPU, Desk, Job
from slurm_cluster import HOME, until

from tests.train.conftest import MODEL, RATE, SAMPLES, environment, tune

BUILD = ["--samples", SAMPLES, "--hop", SAMPLES, "--valid", 0.25]
RECORDINGS, SECONDS, STEPS = 20, 30.0, 120
TRAINING = ["--data.batch", 6, "--optim.steps", STEPS, "--optim.warmup_steps", 2, "--checkpoint.every", 10]
TRAINING += ["--tracking.wandb", "disabled", "--tracking.every", 50, "--tracking.evaluate_every", 1000]
TRANSFORMER = ["--model.transformer.width", 16, "--model.transformer.layers", 2, "--model.transformer.heads", 2]
pytestmark = pytest.mark.slow(area="slurm")


class Chain:
    """The folders of the four steps, and their arguments."""

    def __init__(self, folder: Path, audio: Path) -> None:
        self.shards, self.run = folder / "chain-shards", folder / "chain-vqvae"
        self.latents, self.prior = folder / "chain-latents", folder / "chain-prior"
        data = {"vqvae": self.shards, "prior": self.latents}
        places = {"vqvae": self.run, "prior": self.prior}
        models = {"vqvae": MODEL["vqvae"], "prior": TRANSFORMER}
        self.build = [audio, self.shards, *BUILD]
        self.encode = [self.run, self.shards, self.latents, "--seconds", 1]
        self.train = {
            family: ["--data", data[family], "--run-dir", places[family], *TRAINING, *models[family]] for family in data
        }


def contents(folder: Path) -> dict[str, bytes]:
    """What a data folder holds, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def hashes(run: Path) -> dict[str, object]:
    """The files of the last checkpoint but the record of the run."""
    last = run / "checkpoints" / f"step-{STEPS:08d}"
    files = json.loads((last / "manifest.json").read_text())["files"]
    return {name: about for name, about in files.items() if name != "run.json"}


def straight(folder: Path, audio: Path) -> Chain:
    """The same steps without Slurm and without an interruption, on one core as the jobs have it."""
    chain = Chain(folder, audio)
    folder.mkdir()
    alone = ["taskset", "-c", str(min(os.sched_getaffinity(0))), sys.executable, "-m"]
    for words in (
        ["shards", "build", "--workers", 1, *chain.build],
        ["train", "vqvae", *chain.train["vqvae"]],
        ["train", "encode", *chain.encode],
        ["train", "prior", *chain.train["prior"]],
    ):
        done = subprocess.run([*alone, *map(str, words)], cwd=HOME, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
    return chain


def submitted(desk: Desk, chain: Chain) -> list[Job]:
    """The four jobs, each waiting for the one before. The encoding has two processes."""
    steps = [
        ("shards", "shard.sh", chain.build, chain.shards, CPU),
        ("vqvae", "train_vqvae.sh", chain.train["vqvae"], chain.run, CPU),
        ("encode", "encode.sh", chain.encode, chain.latents, CPU),
        ("prior", "train_prior.sh", chain.train["prior"], chain.prior, CPU),
    ]
    jobs: list[Job] = []
    for what, script, words, place, slurm in steps:
        wait = [f"--dependency=afterok:{jobs[-1].number}"] if jobs else []
        env = {"AUDIO_TRAIN_PROCS": "2"} if what == "encode" else {}
        name = f"chain-{what}"
        number = desk.sbatch("--job-name", name, "--nodes=1", *slurm, *wait, HOME / "slurm" / script, *words, **env)
        jobs.append(Job(desk.cluster, number, place, desk.folder / f"slurm-{name}-{number}.log"))
    return jobs


def interrupt(desk: Desk, chain: Chain, jobs: list[Job]) -> None:
    """Ends each job once: by a warning, or by the death of a process."""
    shards, vqvae, encode, prior = jobs
    until(lambda: any("piece" in file.read_text() for file in chain.shards.glob(".build/part-*/journal")), shards.told)
    desk.cluster.inside("scancel", "--batch", "--signal=USR2", shards.number)
    vqvae.begun(1, steps=10)
    vqvae.hit(signal.SIGKILL, rank=0)
    until(lambda: any(chain.latents.glob(".encode/*.latents")), encode.told)
    encode.hit(signal.SIGKILL, rank=1)
    prior.begun(1, steps=10)
    desk.cluster.inside("scancel", "--batch", "--signal=USR2", prior.number)


@beside
def test_four_jobs_that_wait_for_each_other(desk: Desk):
    """Each is requeued once, the next one waits for its second end, and the prior is that of undisturbed steps."""
    audio = desk.folder / "chain-audio"
    audio.mkdir()
    for seed in range(RECORDINGS):
        soundfile.write(audio / f"{seed:02d}.wav", tune(SECONDS, seed), RATE)
    chain = Chain(desk.folder, audio)
    jobs = submitted(desk, chain)
    interrupt(desk, chain, jobs)
    for job in jobs:
        assert job.over() == "COMPLETED", job.told()
        assert job.lives == 2, job.told()
    facts = [desk.cluster.facts(job.number) for job in jobs]
    for before, after in pairwise(facts):
        assert before["EndTime"] <= after["StartTime"], (before, after)
    expected = straight(desk.folder / "straight", audio)
    assert contents(chain.shards) == contents(expected.shards)
    assert hashes(chain.run) == hashes(expected.run)
    assert contents(chain.latents) == contents(expected.latents)
    assert hashes(chain.prior) == hashes(expected.prior)
    model = "model/model.safetensors"
    assert (chain.prior / model).read_bytes() == (expected.prior / model).read_bytes()
