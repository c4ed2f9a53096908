"""torch.compile changes nothing but speed: the same losses, and checkpoints from which either kind of run resumes."""

import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.train.conftest import flags, points, start, train
from train.config import FREE
from train.errors import TrainError
from train.training.learner import compile_passes

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler: install g++")


def test_compile_may_change_between_attempts():
    assert "compile" in FREE


@needs_compiler
@pytest.mark.skipif(not os.environ.get("TEST_COMPILE"), reason="compiling takes minutes: set TEST_COMPILE=1")
@pytest.mark.parametrize("family", ["vae", "hvae", "vqvae"])
def test_compiled_and_eager_runs_are_the_same_and_resume_each_other(family, straight, data_dir, tmp_path):
    run = tmp_path / "run"
    words = flags(family, data_dir, run, "--tracking.evaluate_every", "100", "--tracking.audio_every", "100")
    compiled = start([*words, "--compile", "true", "--stop_at", "3"], TORCHINDUCTOR_COMPILE_THREADS="1")
    try:
        _, err = compiled.communicate(timeout=1500)
    finally:
        compiled.kill()
    assert compiled.returncode == 85, err[-4000:]
    for name in ("training", "model"):
        file = run / "checkpoints" / "step-00000003" / f"{name}.safetensors"
        assert not [key for key in load_file(file) if "_orig_mod" in key]
    train(words)
    expected = {row["step"]: row for row in points(straight(family))}
    found = [row for row in points(run) if row["step"]]
    assert len(found) == len(expected) - 1
    for row in found:
        for name, value in row.items():
            if name.startswith(("loss/", "model/")) or name == "optim/gradient_norm":
                # Sums run in another order. Adam amplifies rounding, and codes may change at a tie.
                assert value == pytest.approx(expected[row["step"]][name], rel=2e-2, abs=1e-3), (row["step"], name)
        first = "loss/total"
        if row["step"] == 1:
            assert row[first] == pytest.approx(expected[1][first], rel=1e-5)


def test_gpus_need_a_c_compiler_too(monkeypatch):
    monkeypatch.setattr("shutil.which", {"g++": "/usr/bin/g++"}.get)
    monkeypatch.delenv("CC", raising=False)
    compiled = []
    model = SimpleNamespace(compile=lambda: compiled.append(True))
    with pytest.raises(TrainError, match="needs a C compiler, and there is no gcc: install gcc"):
        compile_passes(model, SimpleNamespace(device=torch.device("cuda", 0), launch={}))
    assert not compiled
    compile_passes(model, SimpleNamespace(device=torch.device("cpu"), launch={}))
    assert compiled


def test_without_a_compiler_it_is_one_line(data_dir, tmp_path):
    said = train(flags("vae", data_dir, tmp_path / "run", "--compile", "true"), code=1, PATH="/nowhere", CXX="g++-0")
    assert "compile needs a C++ compiler, and there is no g++-0" in said
    assert "Traceback" not in said
