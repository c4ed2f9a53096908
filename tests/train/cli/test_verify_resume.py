"""verify-resume accepts a correct run and reports differences."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.train.conftest import ROOT, flags, train
from train.__main__ import run
from train.cli import verify_resume
from train.cli.verify_resume import compare
from train.errors import TrainError
from train.process.stop_requests import STOPPED

MACHINE = ["--config_file", "accelerate_config.yaml", "--num_processes"]


def attempt_in_forks(command: list[str], **options: object) -> subprocess.CompletedProcess:
    """Runs the command of an attempt by `train` of these tests, which starts no launcher and imports nothing again."""
    python, module, *rest = command
    assert (python, module) == (sys.executable, "-m")
    processes = 1
    if rest[0] == "accelerate.commands.launch":
        assert rest[1:4] == MACHINE
        assert rest[5] == "-m"
        processes, rest = int(rest[4]), rest[6:]
    assert rest[0] == "train"
    stops = rest[rest.index("--stop_at") + 1] != "0"
    train(rest[1:], processes, code=STOPPED if stops else 0)
    return subprocess.CompletedProcess(command, 0, "", "")


def test_a_correct_run_is_verified(data_dir, tmp_path, monkeypatch, capsys):
    """Launchers with these flags are started in test_run."""
    words = flags("vqvae", data_dir, tmp_path, "--data.microbatch", "4")
    words = [word for word in words if word not in ("--run-dir", str(tmp_path))]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(verify_resume.subprocess, "run", attempt_in_forks)
    assert run(["verify-resume", *words]) == 0
    printed = capsys.readouterr().out
    assert printed.count("the same") == 7
    assert "DIFFERENT" not in printed


def test_an_attempt_is_the_real_command(data_dir, tmp_path):
    """Its error is the error of verify-resume."""
    words = flags("vae", data_dir, tmp_path)[1:]
    words = [word for word in words if word not in ("--run-dir", str(tmp_path))]
    with pytest.raises(TrainError, match=r"an attempt failed: error: .*lower the batch"):
        verify_resume._attempt(["vae", *words, "--data.batch", "9999"], tmp_path / "run", 1, 0)


def test_wrong_input_is_one_line(data_dir):
    assert "optim.lrr" in train(["verify-resume", "vae", "--data", str(data_dir), "--optim.lrr", "1"], code=1)
    assert "at least 2 steps" in train(["verify-resume", "vae", "--data", str(data_dir), "--optim.steps", "1"], code=1)
    assert "FAMILY: gan is none of vae, hvae, vqvae" in train(["verify-resume", "gan"], code=1)


def test_differences_are_seen(data_dir, tmp_path):
    one = tmp_path / "one"
    train(flags("vae", data_dir, one, "--tracking.samples", "true"))
    assert compare(one, one, exact=True) == {"chunks": True, "losses": True, "weights": True}
    other = tmp_path / "other"
    shutil.copytree(one, other)
    lines = (other / "metrics.jsonl").read_text().splitlines()
    row = json.loads(lines[4])
    row["loss/total"] *= 1.001
    del row["crc32"]  # a damaged line would be left out
    (other / "metrics.jsonl").write_text("\n".join([*lines[:4], json.dumps(row), *lines[5:]]))
    noted = other / "samples" / "rank-00000.jsonl"
    noted.write_text(noted.read_text().replace('"step": 3', '"step": 2', 1))
    newest = other / "checkpoints" / "step-00000008" / "manifest.json"
    content = json.loads(newest.read_text())
    content["files"]["training.safetensors"]["sha256"] = "0"
    newest.write_text(json.dumps(content))
    assert compare(one, other, exact=True) == {"chunks": False, "losses": False, "weights": False}
    assert compare(one, other, exact=False)["losses"]
