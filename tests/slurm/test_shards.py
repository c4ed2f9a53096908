"""A build of shards in two lives of its job, on a real Slurm."""

import signal
import subprocess
import sys

import psutil
import soundfile
from beside import beside
from jobs import CPU, Desk, Job
from slurm_cluster import HOME, until

from tests.train.conftest import tune


@beside
def test_build_in_two_lives(desk: Desk):
    """Told that time is nearly up, it keeps what it has finished, is requeued and comes to the whole."""
    audio, out = desk.folder / "long-audio", desk.folder / "shards-in-two-lives"
    audio.mkdir()
    for seed in range(40):
        soundfile.write(audio / f"{seed:02d}.wav", tune(60.0, seed), 8000)
    slurm = ["--job-name=build", "--nodes=1", *CPU]
    number = desk.sbatch(*slurm, HOME / "slurm/shard.sh", audio, out, "--samples", 2205, "--hop", 2205)
    job = Job(desk.cluster, number, out, desk.folder / f"slurm-build-{number}.log")

    def recordings() -> int:
        return sum(journal.read_text().count("piece") for journal in out.glob(".build/part-*/journal"))

    until(recordings, job.told)
    # A slow machine, so that the signal finds it at work.
    (build,) = [process for process in psutil.process_iter(["cmdline"]) if str(out) in (process.info["cmdline"] or [])
                and "python" in process.info["cmdline"][0]]  # fmt: skip
    for worker in build.children():
        worker.send_signal(signal.SIGSTOP)
    finished = recordings()
    desk.cluster.inside("scancel", "--batch", "--signal=USR2", number)
    assert job.over() == "COMPLETED", job.told()
    assert job.lives == 2
    assert 0 < finished < 40
    assert f"stopped by USR2; requeueing job {number}" in job.log
    assert "kept 40 recordings" in job.log
    words = [sys.executable, "-m", "shards", "verify", str(out)]
    assert subprocess.run(words, cwd=HOME, capture_output=True).returncode == 0
    # Nothing is left to do, and a build that is refused is not tried again.
    assert Job(desk.cluster, desk.sbatch(*slurm, HOME / "slurm/shard.sh", audio, out, "--hop", 0), out, out).over() == "FAILED"
