"""Every Python snippet of the documents runs as printed.

The snippets of one page run in one process, in the page's order, in a folder that has the files they name: shards, a
trained run and recordings.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from documents import BLOCK, DOCUMENTS, ROOT, blocks

from audiovae import read_recording
from shards.building.build import build
from shards.practice.tunes import practice
from tests import preloaded

PAGES = [document for document in DOCUMENTS if blocks(document.read_text(), "python")]
# Languages of the documents' blocks. One that is not here, like `py`, would hide snippets from the tests.
LANGUAGES = {"sh", "python", "text"}
# What each page's snippets leave behind.
WRITTEN = {
    "README.md": {"song-out.wav", "shared/README.md"},
    "library.md": {"song-out.wav", "song-decoded.wav", "between.wav", "copy/config.json", "programs/encoder.pt2"},
}


def run(*command: str, folder: Path, timeout: int = 250) -> str:
    """Runs a command in a folder as a user would; its output. Fails with its errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    kept |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=kept, text=True, capture_output=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def train(*words: object) -> None:
    """Runs `python -m train`, whose start other tests pay for. Fails with its errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    process = preloaded.start("train", [str(word) for word in words], kept)
    try:
        _, errors = process.communicate(timeout=1000)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with shards of one-second chunks in `data`, and finished runs of two steps.

    They are an HVAE in `runs/first` and a prior of its latents in `runs/prior`.
    """
    folder = tmp_path_factory.mktemp("trained")
    practice(folder / "recordings", minutes=0.3)
    build(folder / "recordings", folder / "data", valid=0.2, workers=1)
    settings = {
        "config": ROOT / "train" / "configs" / "hvae_tiny.yaml",
        "data": folder / "data",
        "run-dir": folder / "runs" / "first",
        "data.batch": 4,
        "optim.steps": 2,
        "tracking.evaluate_every": 2,
        "tracking.evaluate_chunks": 4,
        "tracking.wandb": "disabled",
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    train("hvae", *words)
    train("encode", folder / "runs" / "first", folder / "data", folder / "latents", "--seconds", "2")
    settings = {name: value for name, value in settings.items() if name != "config"}
    settings |= {"data": folder / "latents", "run-dir": folder / "runs" / "prior", "data.batch": 2}
    settings |= {"model.transformer.width": 16}
    settings |= {"model.transformer.layers": 1, "model.transformer.heads": 2}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    train("prior", *words)
    return folder


@pytest.fixture
def desk(trained, tmp_path) -> Path:
    """A folder with the files that the snippets name; what they write goes away with it."""
    for name in ("data", "runs"):
        (tmp_path / name).mkdir()
    for file in (trained / "data").iterdir():
        (tmp_path / "data" / file.name).symlink_to(file)
    for name in ("first", "vae"):  # the tutorial's run has the second name
        (tmp_path / "runs" / name).symlink_to(trained / "runs" / "first")
    (tmp_path / "runs" / "prior").symlink_to(trained / "runs" / "prior")
    first, second, *_ = sorted(file for file in (trained / "recordings").iterdir() if file.is_file())
    for name, source in (("song.flac", first), ("other.flac", second), ("options1-vae.wav", first)):
        soundfile.write(tmp_path / name, read_recording(source, 22050).numpy(), 22050)
    audio = tmp_path / "runs" / "hvae" / "report" / "audio"  # passages of a report, for the README's picture
    audio.mkdir(parents=True)
    for name in ("reference", "reconstruction"):
        soundfile.write(audio / f"recording-5-{name}.wav", read_recording(first, 22050).numpy(), 22050)
    return tmp_path


def test_there_are_snippets():
    assert {"README.md", "library.md", "data.md", "tutorial.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_languages_of_blocks_are_known(document):
    text = document.read_text()
    assert {language for language, _ in BLOCK.findall(text)} <= LANGUAGES
    assert text.count("```") == 2 * len(BLOCK.findall(text)), "a block that the tests do not see"


@pytest.mark.slow(area="documents")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_snippets_run_as_printed(page, desk):
    before = set(desk.rglob("*"))
    run(sys.executable, "-c", "\n".join(blocks(page.read_text(), "python")), folder=desk)
    written = {str(path.relative_to(desk)) for path in set(desk.rglob("*")) - before}
    assert WRITTEN.get(page.name, set()) <= written


@pytest.mark.slow(area="documents")
def test_python_in_shell_blocks_runs_as_printed(desk):
    snippets = [
        match[0]
        for document in DOCUMENTS
        for block in blocks(document.read_text())
        for match in re.finditer(r'^python -c "[^"]*"', block, re.MULTILINE)
    ]
    assert snippets
    for snippet in snippets:
        run("bash", "-euc", snippet, folder=desk)
    assert (desk / "picture.png").stat().st_size > 1000
