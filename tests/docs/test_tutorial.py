"""The commands of docs/tutorial.md, one after the other, as they stand but for the length of the training."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from documents import ROOT, blocks

from shards.practice.tunes import practice
from tests import preloaded

TEXT = (ROOT / "docs" / "tutorial.md").read_text()
INSTALL, *REST = blocks(TEXT)
SHORT = {"--optim.steps 150": "--optim.steps 4", "--stop_at 75": "--stop_at 2"}
SHORT |= {"--tracking.evaluate_every 50": "--tracking.evaluate_every 4 --tracking.evaluate_chunks 8"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder like a clone with recordings in it."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "train").symlink_to(ROOT / "train")
    practice(folder / "practice", minutes=0.3)
    (folder / "recordings").mkdir()
    for file in (folder / "practice").iterdir():
        name = "options1-jt.ogg" if file.suffix == ".ogg" else file.name
        shutil.copy(file, folder / "recordings" / name)
    return folder


def shell(commands: str, folder: Path, **more: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    kept |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    kept = {**kept, **more} if more else preloaded.with_forks(kept)
    return subprocess.run(
        ["bash", "-euc", commands], cwd=folder, env=kept, text=True, capture_output=True, timeout=1000, check=False
    )


@pytest.mark.slow(area="documents")
def test_every_command_runs_and_says_what_is_shown(desk):
    commands = [block for block in REST if "demo" not in block]
    assert len(commands) == 8
    told = []
    for block in commands:
        for long, short in SHORT.items():
            block = block.replace(long, short)
        done = shell(block, desk)
        assert done.returncode == (85 if "--stop_at" in block else 0), done.stderr[-3000:]
        told.append(done.stdout + done.stderr)
    _build, checked, begun, resumed, status, evaluated, heard, generated = told
    # What the document shows is what they say, but for the numbers.
    assert "every byte as built" in checked
    assert "stopped at step 2 (stop_at 2), all saved; run the same command to resume" in begun
    assert "from step 2" in resumed
    assert "finished at step 4: runs/vae/model" in resumed
    assert "runs/vae: vae, finished, step 4 of 4" in status
    assert "report:  runs/vae/report/index.html" in evaluated
    assert re.search(r"options1-vae.wav: [\d.]+ s at 22050 Hz, vae of runs/vae", heard)
    assert re.search(r"latents: \d+ recordings, \d+ windows of 5 s, ", generated)
    assert "finished at step 4: runs/prior/model" in generated
    assert re.search(r"new/001.wav: 10.0 s at 22050 Hz, flow prior of runs/prior", generated)
    assert re.search(r"2 recordings of 10.0 s in [\d.]+ s: [\d.]+ s of audio a second", generated)
    done = subprocess.run(
        [sys.executable, "-c", blocks(TEXT, "python")[0] + "\nassert again.shape == audio.shape"],
        cwd=desk,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert soundfile.info(desk / "options1-vae.wav").samplerate == 22050


@pytest.mark.slow(area="documents")
def test_the_installation(tmp_path):
    """Without what it depends on, which takes minutes; making the package itself needs an index for setuptools."""
    for name in ("train", "shards", "audiovae"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", "README.md", "audiovae_commands.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    assert "pip install -c constraints.txt ." in INSTALL
    kept = {"PATH": os.environ["PATH"], "PIP_NO_DEPS": "1", "PIP_RETRIES": "0", "PYTHONPATH": ""}
    done = shell(INSTALL, tmp_path, **kept)
    if "setuptools" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr[-3000:]
    (packages,) = (tmp_path / ".venv").glob("lib/python*/site-packages")
    for file in ("train/configs/vae_tiny.yaml", "train/configs/study/mel_vae.yaml", "shards/__main__.py"):
        assert (packages / file).exists(), file
    assert list((packages / "train" / "evaluation" / "report" / "templates").iterdir())
