"""The commands of the README and of docs/workstation.md run as they stand, but for the length of the training."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from shards.practice.tunes import practice
from tests import preloaded
from train.cli.parser import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
WORKSTATION = (ROOT / "docs" / "workstation.md").read_text()


def block(after: str, language: str = "sh", text: str = README) -> str:
    """The first code block after a heading."""
    return re.search(rf"{re.escape(after)}.*?```{language}\n(.*?)```", text, re.DOTALL)[1]


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder like a fresh clone, with recordings and a song."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("accelerate_config.yaml", "train"):
        (folder / name).symlink_to(ROOT / name)
    practice(folder / "recordings", minutes=0.5)
    song = next((folder / "recordings").glob("*.flac"))
    for name in ("song.flac", "other.flac"):
        soundfile.write(folder / name, *soundfile.read(song))
    return folder


@pytest.mark.slow(area="documents")
def test_on_a_workstation_and_as_a_library(desk):
    short = "train/configs/hvae_tiny.yaml --optim.steps 3 --tracking.evaluate_every 3"
    commands = block("## On a workstation").replace("train/configs/hvae_tiny.yaml", short)
    assert short in commands
    more = block("## More commands", text=WORKSTATION)
    assert all(name in more for name in ("inspect", "verify", "accelerate", "interpolate", "sample", "status"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    forking = preloaded.with_forks(environment)
    done = subprocess.run(
        ["bash", "-euxc", commands + more], cwd=desk, env=forking, text=True, capture_output=True, timeout=1000
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (desk / "runs/first/report/index.html").exists()
    assert soundfile.info(desk / "song-hvae.wav").samplerate == 22050
    for name in ("reconstructed/song.wav", "reconstructed/other.wav", "between.wav", "drawn.wav"):
        assert soundfile.info(desk / name).samplerate == 22050, name

    library = block("## Use a model", "python")
    library += "\nassert audio.shape == (1, 1, 22050) and result.shape == recording.shape == between[0].shape"
    done = subprocess.run([sys.executable, "-c", library], cwd=desk, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_on_slurm_the_arguments_are_those_of_training():
    lines = [line for line in block("## On Slurm").splitlines() if "train_" in line]
    assert len(lines) == 2
    for line in lines:
        script, arguments = re.search(r"(slurm/train_\w+\.sh) (.*)", line).groups()
        assert (ROOT / script).exists()
        family = re.search(r"train_(\w+)\.sh", script)[1]
        assert parse([family, *arguments.split()])[0] == family


def test_what_the_readme_names_is_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
