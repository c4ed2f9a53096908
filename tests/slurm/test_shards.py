"""A build of shards in two lives of its job, on a real Slurm."""

import signal
import subprocess
import sys

import pytest
import soundfile
from beside import beside
from jobs import CPU, Desk, Job
from slurm_cluster import HOME, until

from tests.train.conftest import RATE, tune

SHARD = HOME / "slurm/shard.sh"
pytestmark = pytest.mark.slow(area="slurm")


@beside
def test_build_in_two_lives(desk: Desk):
    """Told that time is nearly up, it keeps what it has finished, is requeued and comes to the whole."""
    audio, out = desk.folder / "long-audio", desk.folder / "shards-in-two-lives"
    audio.mkdir()
    for seed in range(30):
        soundfile.write(audio / f"{seed:02d}.wav", tune(60.0, seed), RATE)
    slurm = ["--job-name=build", "--nodes=1", *CPU]
    number = desk.sbatch(*slurm, SHARD, audio, out)
    job = Job(desk.cluster, number, out, desk.folder / f"slurm-build-{number}.log")

    def recordings() -> int:
        return sum(journal.read_text().count("piece") for journal in out.glob(".build/part-*/journal"))

    until(recordings, job.told)
    # A slow machine, so that the signal finds it at work.
    (build,) = job.processes()
    for worker in build.children():
        worker.send_signal(signal.SIGSTOP)
    assert 0 < recordings() < 30
    desk.cluster.inside("scancel", "--batch", "--signal=USR2", number)
    assert job.over() == "COMPLETED", job.told()
    assert job.lives == 2
    assert f"stopped by USR2; requeueing job {number}" in job.log
    assert "kept 30 recordings" in job.log
    verified = subprocess.run([sys.executable, "-m", "shards", "verify", out], cwd=HOME, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stderr


@beside
def test_refused_build(desk: Desk):
    """What the program refuses it would refuse again."""
    number = desk.sbatch("--job-name=refused-build", *CPU, SHARD, desk.folder / "audio", desk.data, "--hop", 99999)
    job = Job(desk.cluster, number, desk.data, desk.folder / f"slurm-refused-build-{number}.log")
    assert job.over() == "FAILED"
    assert job.lives == 1
    assert job.log.startswith("error: --hop must be")
    assert job.log.count("\n") == 1
