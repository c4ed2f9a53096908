"""Variables of a launcher that promise processes that do not come: one line at once."""

import re
import subprocess
import sys
import time

import pytest

from tests.train.conftest import ROOT, environment, flags, train
from train.parallel import launch_environment
from train.parallel.launch_environment import launch_problem, rank_in, told_when_waiting, unsupported

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "20007"}


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, ""),
        (TORCHRUN, ""),
        ({"RANK": "3"}, ""),  # nothing reads it
        ({"RANK": "0", "WORLD_SIZE": "1", "PMI_SIZE": "4"}, ""),
        ({"PMI_SIZE": "1"}, ""),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "no MASTER_ADDR and no MASTER_PORT: .*unset RANK WORLD_SIZE$"),
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE=4 in the environment, but no RANK and .*unset WORLD_SIZE$"),
        (TORCHRUN | {"RANK": "2"}, "but RANK=2: no launcher started this process"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK=x in the environment is not a whole number"),
        ({"LOCAL_WORLD_SIZE": "-1"}, "LOCAL_WORLD_SIZE=-1 in the environment is not a whole number"),
        ({"SLURM_STEP_NUM_TASKS": "1"}, ""),
        ({"SLURM_STEP_NUM_TASKS": "4", "WORLD_SIZE": "1"}, ""),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "srun started 4 processes .* each would train alone: .*env WORLD_SIZE=1"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE=4: mpirun"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line(environment, problem):
    found = launch_problem(environment)
    assert re.search(problem, found) if problem else not found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, ""),
        ({"ACCELERATE_USE_FSDP": "false", "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_MIXED_PRECISION": "bf16"}, ""),
        ({"ACCELERATE_USE_FSDP": "true"}, "distributed_type: FSDP"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "distributed_type: MEGATRON_LM"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "parallelism_config"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, "mixed_precision: fp8"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "dynamo_backend: INDUCTOR"),
    ],
    ids=str,
)
def test_accelerate_s_configuration_is_named_with_its_key(given, key, tmp_path):
    given = given | {"HF_HOME": str(tmp_path)}
    assert bool(found := unsupported(given, [])) == bool(key)
    assert "\n" not in found
    assert key in found
    if key:
        assert found.startswith("the flags or variables of accelerate: ")
        (tmp_path / "accelerate").mkdir()
        (tmp_path / "accelerate" / "default_config.yaml").touch()
        assert unsupported(given, ["accelerate", "launch", "-m", "train"]).startswith(f"{tmp_path}/accelerate/default")
        own = ["accelerate", "launch", "--config_file", "my own.yaml", "-m", "train"]
        assert unsupported(given, own).startswith("my own.yaml: ")
        assert unsupported(given, ["--config-file=b.yaml"]).startswith("b.yaml: ")


@pytest.mark.slow(area="zero")
def test_the_user_s_own_configuration_with_fsdp(tmp_path):
    """The real launcher with the file that `accelerate config` writes."""
    file = tmp_path / "accelerate" / "default_config.yaml"
    file.parent.mkdir()
    lines = ["compute_environment: LOCAL_MACHINE", "distributed_type: FSDP", "mixed_precision: bf16", "use_cpu: false"]
    lines += ["num_machines: 1", "num_processes: 1", "machine_rank: 0", "fsdp_config: {fsdp_version: 2}"]
    file.write_text("\n".join(lines) + "\n")
    words = ["vae", "--data", "x", "--run-dir", str(tmp_path / "run")]
    process = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "-m", "train", *words],
        env=environment(HF_HOME=str(tmp_path)),
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert process.returncode
    assert [line for line in process.stderr.splitlines() if line.startswith("error")] == [
        f"error: {file}: distributed_type: FSDP is not supported: set distributed_type: MULTI_GPU there, or DEEPSPEED "
        "to shard the training state; or launch with --config_file accelerate_config.yaml"
    ]
    assert not (tmp_path / "run").exists()


def test_a_rank_counts_only_among_several_processes():
    assert rank_in(TORCHRUN) == 1
    assert rank_in({"RANK": "3"}) == rank_in({"RANK": "3", "WORLD_SIZE": "1"}) == rank_in({"RANK": "x"}) == 0


def test_waiting_is_told_where_no_launcher_watches(monkeypatch, capsys):
    monkeypatch.setattr(launch_environment, "PATIENCE_S", 0.01)
    for variables in ({}, TORCHRUN | {"TORCHELASTIC_RUN_ID": "7"}, TORCHRUN):
        assert capsys.readouterr().err == ""
        with told_when_waiting(variables):
            time.sleep(0.1)
    said = capsys.readouterr().err
    assert said.startswith("waiting for the other processes at n1:20007, as the environment has RANK=1 WORLD_SIZE=2")
    assert said.endswith("unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT\n")


def test_the_command_ends_at_once(tmp_path):
    """Also as a process other than the first, whose errors usually wait for those of the first."""
    began = time.monotonic()
    said = train(flags("vae", tmp_path, tmp_path / "run"), code=1, RANK="1", WORLD_SIZE="2")
    assert time.monotonic() - began < 15
    assert said.startswith("error (process 1): WORLD_SIZE=2 in the environment, but no MASTER_ADDR")
    assert len(said.splitlines()) == 1
