"""The logic of the batch script of encodings without Slurm."""

import signal

import pytest
from fake_node import ENCODE, dry_run


def encode(node, *more: object, **env: str) -> tuple[int, str, str]:
    return node.call("bash", ENCODE, "my model", "my data", node.out, *more, **env)


def test_an_encoding_has_the_processes_of_all_nodes(node):
    code, _, err = encode(node, "--seconds", "5", SLURM_JOB_NUM_NODES="2", AUDIO_TRAIN_PROCS="3")
    assert code == 0, err
    passed = node.lines("accelerate.args")
    assert "--num_machines 2 --num_processes 6" in " ".join(passed)
    assert passed[passed.index("-m") :] == ["-m", "train", "encode", "my model", "my data", str(node.out), *passed[-2:]]
    assert passed[-2:] == ["--seconds", "5"]
    (node.fakes / "accelerate.args").unlink()
    assert encode(node, SLURM_ARRAY_TASK_ID="3")[0] != 0
    assert not node.lines("accelerate.args"), "its tasks would share a folder"
    node.call("bash", ENCODE, "runs/%a", "data", f"{node.out}-%a", SLURM_ARRAY_TASK_ID="3")
    assert node.lines("accelerate.args")[-3:] == ["runs/3", "data", f"{node.out}-3"]


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_stopped_encoding_is_requeued(node, number):
    code, _, err = node.signalled(number, ENCODE, "run", "data", node.out, FAKE_MODE="encode_until_term")
    assert code, "a job that waits by afterok must not begin"
    assert node.lines("requeued") == ["10007"]
    assert f"the encoding was stopped by {number.name[3:]}; requeueing job 10007" in err


@pytest.mark.parametrize(
    ("env", "message", "requeued"),
    [
        ({"FAKE_MODE": "encode_on"}, "the encoding ended with exit code 7; requeueing job", ["10007"]),
        ({"FAKE_MODE": "encode_nothing"}, "7 before it had finished anything, and a restart would not get further", []),
        ({"FAKE_MODE": "encode_refused"}, "", []),
        ({"FAKE_MODE": "encode_on", "FAKE_STATE": "CANCELLED Restarts=0"}, "run sbatch again to resume", []),
        ({"FAKE_MODE": "encode_on", "FAKE_STATE": "COMPLETING Restarts=1"}, "ended with exit code 7", []),
    ],
)
def test_a_crashed_encoding(node, env, message, requeued):
    """It goes on as long as each start finishes something, unless the program has refused to."""
    code, _, err = encode(node, FAKE_CODE="7", **env)
    assert code == 7
    assert message in err
    assert len(err.splitlines()) == bool(message)
    assert node.lines("requeued") == requeued


def test_an_encoding_waits_for_the_end_of_its_training(node):
    """A training that was stopped, or that another job continues, ends its job without a failure."""
    code, out, err = node.call("bash", ENCODE, node.run_dir, "data", node.out)
    assert code != 0
    assert "this training is not finished" in err
    assert len((out + err).splitlines()) == 1
    assert not node.lines("accelerate.args")
    (node.run_dir / "DONE").touch()
    assert node.call("bash", ENCODE, node.run_dir, "data", node.out)[0] == 0


def test_dry_run_of_an_encoding(node):
    words = ["runs/later", "data", "new/out", "--secnds", "5"]
    code, out, err = dry_run(node, "=-N 2", *words, script=ENCODE)
    assert f"sbatch -N 2 {ENCODE} {' '.join(words)}" in out
    assert "--num_machines 2 --num_processes 2" in out
    assert code != 0
    assert err.startswith("error: unrecognized arguments: --secnds 5; did you mean --seconds?")
    assert len(err.splitlines()) == 1
