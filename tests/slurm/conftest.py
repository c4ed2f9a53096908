"""A real Slurm for the tests that want one: see the script `cluster` beside this file."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import soundfile
from beside import start_all
from fake_node import Node
from jobs import Desk
from slurm_cluster import CLUSTER, Cluster, missing

from shards.building.build import build
from tests.train.conftest import RATE, SAMPLES, tune


@pytest.fixture(scope="session")
def cluster():
    """Eight nodes of four CPUs and two pretended GPUs each; gone when the tests are over."""
    if absent := missing():
        pytest.skip(
            f"Slurm is not installed ({', '.join(absent)} missing): apt-get install slurmctld slurmd slurm-client"
        )
    root = Path(tempfile.mkdtemp(prefix="slurm-"))
    made = Cluster(root)
    try:
        started = subprocess.run([str(CLUSTER), "start"], env=made.env, capture_output=True, text=True, timeout=60)
        if started.returncode:
            pytest.skip(f"no cluster can be started here (namespaces forbidden?): {started.stderr.strip()[-300:]}")
        yield made
    finally:
        made.order("stop")
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def hook(tmp_path_factory) -> Path:
    """A file for AUDIO_TRAIN_ENV that loads the Python of these tests.

    Each launcher and its processes keep to one core, as a Slurm with cgroups sees to: many jobs that all take all cores
    of a small machine spend their time in waiting for their threads.
    """
    file = tmp_path_factory.mktemp("hook") / "env.sh"
    pin = 'exec taskset -c $((RANDOM % $(nproc))) "$@"'
    file.write_text(f"PATH={Path(sys.executable).parent}:$PATH\nrun_with=(bash -c '{pin}' pin)\n")
    return file


@pytest.fixture(scope="session")
def desk(cluster, hook, tmp_path_factory):
    """A user's folder with the shards of four tunes."""
    folder = tmp_path_factory.mktemp("desk")
    audio = folder / "audio"
    audio.mkdir()
    for seed in range(4):
        soundfile.write(audio / f"tune-{seed}.wav", tune(3.0, seed), RATE)
    build(audio, folder / "shards", samples=SAMPLES, hop=SAMPLES, valid=0.25, workers=1)
    return Desk(cluster, folder, hook, folder / "shards")


@pytest.fixture(scope="session")
def results(request, desk):
    """results(scenario): waits for its end and raises what it raised."""
    pool, running = start_all(request.session.items, desk)
    yield lambda scenario: running[scenario].result()
    for future in running.values():
        future.cancel()
    pool.shutdown(wait=True)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)
