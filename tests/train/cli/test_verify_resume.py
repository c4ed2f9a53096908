"""verify-resume accepts a correct run and reports differences."""

import json
import shutil

import pytest

from tests.train.conftest import flags, train
from train.cli.verify_resume import compare


@pytest.mark.timeout(600)
def test_a_correct_run_is_verified(data_dir, tmp_path):
    words = flags("vqvae", data_dir, tmp_path, "--data.microbatch", "4")
    words = [word for word in words if word not in ("--run-dir", str(tmp_path))]
    printed = train(["verify-resume", *words])
    assert printed.count("the same") == 7
    assert "DIFFERENT" not in printed


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
