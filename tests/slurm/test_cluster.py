"""The cluster that the other tests stand on."""

import subprocess

import pytest
from slurm_cluster import CLUSTER

pytestmark = pytest.mark.slow(area="slurm")


def test_nodes_are_machines_of_their_own(cluster):
    words = ["--nodes=2", "--gpus-per-node=2", "bash", "-c", "echo $(hostname) $CUDA_VISIBLE_DEVICES"]
    said = cluster.inside("srun", *words)
    assert sorted(said.splitlines()) == ["n3 0,1", "n4 0,1"]


def test_it_leaves_no_trace(cluster, tmp_path):
    """Of a second cluster beside the first one, whose network does not meet that of the first."""
    root = tmp_path / "second"
    env = cluster.env | {"SLURM_TEST_ROOT": str(root)}

    def call(*words: str) -> str:
        return subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=1000).stdout

    call(str(CLUSTER), "start")
    try:
        assert "n[3-6]" in call(str(CLUSTER), "in", "sinfo")
        assert f"SLURM_TEST_ROOT={root}" in call("ps", "axeww")
    finally:
        call(str(CLUSTER), "stop")
    env = None  # of this test's own ps
    assert f"SLURM_TEST_ROOT={root}" not in call("ps", "axeww")
    assert not root.exists()
