"""The examples of docs/library.md run as they stand, one after the other, for every family."""

import re
import sys

import pytest
import soundfile
from tiny_models import ROOT, awake, plucked

import audiovae as library
from audiovae.__main__ import main

TEXT = (ROOT / "docs" / "library.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(
    "family", ["vae", *(pytest.param(family, marks=pytest.mark.slow(area="documents")) for family in ("hvae", "vqvae"))]
)
def test_the_examples_run(family, tmp_path, monkeypatch):
    library.save(awake(family), tmp_path / "runs" / "first" / "model")
    soundfile.write(tmp_path / "song.flac", plucked(1, 22050, 44100), 44100)
    soundfile.write(tmp_path / "other.flac", plucked(2, 9000, 16000), 16000)
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 6
    exec(compile("\n".join(BLOCKS), "docs/library.md", "exec"), {"__name__": "example"})
    first, second = ((tmp_path / name).read_bytes() for name in ("song-out.wav", "song-decoded.wav"))
    assert first == second
    assert "12.3" in (tmp_path / "shared" / "README.md").read_text()
    assert (tmp_path / "programs" / "decoder.pt2").exists()


def test_the_example_of_many_recordings_runs(tmp_path, monkeypatch, capsys):
    library.save(awake("vae"), tmp_path / "runs" / "first" / "model")
    for name in ("song.flac", "other.flac"):
        soundfile.write(tmp_path / name, plucked(1, 22050, 44100), 44100)
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(r"python -m (audiovae reconstruct .*/)\n", TEXT)
    monkeypatch.setattr(sys, "argv", line.split())
    assert main() == 0
    told = re.findall(r"`(reconstructed/\w+\.wav)`", TEXT)
    assert sorted(told) == sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "reconstructed").iterdir())
    said = capsys.readouterr().out
    assert all(f"{name}: 0.5 s at 22050 Hz" in said for name in told)


def test_every_public_name_is_documented():
    training = {"Output", "Statistics", "Partial", "Noise"}
    undocumented = {name for name in library.__all__ if f"audiovae.{name}" not in TEXT} - training
    undocumented = {name for name in undocumented if f"`{name}" not in TEXT}
    assert not undocumented
    assert all(getattr(library, name).__doc__ for name in library.__all__ if name != "FAMILIES")


def test_the_commands_are_those_that_exist():
    from audiovae.commands import COMMANDS

    told = TEXT.split("## Commands")[1]
    assert all(f"`{name} RUN" in told for name in COMMANDS)
