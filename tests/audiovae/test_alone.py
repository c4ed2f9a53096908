"""`audiovae` without training and data sets (of shards only the ground is there), and as pip installs it."""

import os
import subprocess
import sys

import soundfile
from tiny_models import ROOT, awake, plucked

import audiovae

ALONE = """
import sys

class Wall:
    def find_spec(self, name, *_):
        rooms = ("shards.audio.", "shards.cli.", "shards.files.", "shards.text.")
        ground = name == "shards" or f"{name}.".startswith(rooms)
        if not ground and name.split(".")[0] in ("train", "shards", "wandb", "accelerate", "webdataset"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Wall())
import audiovae
from audiovae.__main__ import main
model = audiovae.from_pretrained("model")
model.save_pretrained("copy")
audiovae.add_measures("copy", {"mse": 0.1}, {})
for words in (
    "reconstruct copy in.wav out.wav",
    "encode copy in.wav out.safetensors",
    "decode copy out.safetensors back.wav",
    "interpolate copy in.wav out.wav between.wav --steps 2",
    "sample copy drawn.wav --count 1",
):
    sys.argv = ["audiovae", *words.split()]
    assert main() == 0, words
try:
    import train
except ImportError:
    print("alone")
"""


def test_without_the_packages_that_train(tmp_path):
    audiovae.save(awake("vqvae"), tmp_path / "model")
    soundfile.write(tmp_path / "in.wav", plucked(1, 9000), 22050)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("alone\n")
    assert (tmp_path / "out.wav").read_bytes() == (tmp_path / "back.wav").read_bytes()


def test_what_is_installed_is_whole(tmp_path):
    """Beside the modules: the marker of types, the templates and the presets. Built, not editable."""
    for name in ("pyproject.toml", "README.md", "train", "audiovae", "shards"):
        (tmp_path / name).symlink_to(ROOT / name)
    build = [sys.executable, "-c", "from setuptools import setup; setup()", "build", "--build-lib", "built"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = {str(file.relative_to(tmp_path / "built")) for file in (tmp_path / "built").rglob("*") if file.is_file()}
    wanted = {file for kind in ("configs/**/*.yaml", "templates/*") for file in (ROOT / "train").glob(kind)}
    wanted |= {*(ROOT / "audiovae").rglob("*.py"), *(ROOT / "audiovae" / "templates").iterdir()}
    assert len(wanted) > 30
    assert {str(file.relative_to(ROOT)) for file in wanted} | {"audiovae/py.typed"} <= found
