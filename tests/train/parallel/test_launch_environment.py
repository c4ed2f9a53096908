"""Variables of a launcher that promise processes that do not come: one line at once."""

import re
import time

import pytest

from tests.train.conftest import flags, train
from train.parallel import launch_environment
from train.parallel.launch_environment import launch_problem, rank_in, told_when_waiting

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
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE=4: mpirun"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line(environment, problem):
    found = launch_problem(environment)
    assert re.search(problem, found) if problem else not found
    assert "\n" not in found


def test_a_rank_counts_only_among_several_processes():
    assert rank_in(TORCHRUN) == 1
    assert rank_in({"RANK": "3"}) == rank_in({"RANK": "3", "WORLD_SIZE": "1"}) == rank_in({"RANK": "x"}) == 0


def test_waiting_is_told_where_no_launcher_watches(monkeypatch, capsys):
    monkeypatch.setattr(launch_environment, "PATIENCE_S", 0.01)
    for environment in ({}, TORCHRUN | {"TORCHELASTIC_RUN_ID": "7"}, TORCHRUN):
        assert capsys.readouterr().err == ""
        with told_when_waiting(environment):
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
