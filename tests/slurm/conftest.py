"""A real Slurm for the tests that want one: see the script `cluster` beside this file."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from slurm_cluster import CLUSTER, Cluster, missing


@pytest.fixture(scope="session")
def cluster():
    """Six nodes of four CPUs and two pretended GPUs each; gone when the tests are over."""
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
    """A file for AUDIO_TRAIN_ENV that loads the Python of these tests."""
    file = tmp_path_factory.mktemp("hook") / "env.sh"
    file.write_text(f"PATH={Path(sys.executable).parent}:$PATH\n")
    return file
