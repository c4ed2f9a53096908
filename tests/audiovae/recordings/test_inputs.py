"""What is read and what is written: never the same file, told when it cannot be, told when sound is lost."""

import os
import re
import shutil
import sys
import warnings

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import plucked

import audiovae
from audiovae import ModelError
from audiovae.__main__ import main
from audiovae.errors import ModelWarning
from audiovae.recordings.audio_file import read_recording, write_recording

RATE = 22050


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to stand in, with a recording and one that is its hard link, its link, its link to a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    soundfile.write("a.wav", plucked(1), RATE)
    os.link("a.wav", "hard.wav")
    os.symlink("a.wav", "soft.wav")
    os.symlink(tmp_path, "sub/up")
    return tmp_path


def run(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["audiovae", *map(str, words)])
    return main()


NAMES = ["a.wav", "./a.wav", "sub/../a.wav", "hard.wav", "soft.wav", "sub/up/a.wav"]


@pytest.mark.parametrize("output", NAMES)
@pytest.mark.parametrize("command", ["reconstruct", "interpolate", "decode"])
def test_the_output_is_never_an_input(command, output, here, model_dir, monkeypatch, capsys):
    monkeypatch.setattr("audiovae.commands.load", lambda *_: pytest.fail("refused before any work"))
    before = (here / "a.wav").read_bytes()
    inputs = {"interpolate": ["sub/../hard.wav", "a.wav"]}.get(command, ["a.wav"])
    assert run(monkeypatch, command, model_dir, *inputs, output) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {os.path.join('', output).removeprefix('./')}: the output is the input ")
    assert said.endswith("itself; name another output\n")
    assert (here / "a.wav").read_bytes() == before


def test_nor_is_it_in_the_library(here, model_dir):
    model = audiovae.load(model_dir)
    shutil.copy("a.wav", "b.safetensors")
    before = (here / "a.wav").read_bytes()
    with pytest.raises(ModelError, match="is the input"):
        audiovae.reconstruct_file(model, "a.wav", "soft.wav")
    with pytest.raises(ModelError, match="is the input"):
        audiovae.encode_file(model, "b.safetensors", here / "b.safetensors")
    audiovae.encode_file(model, "a.wav", "c.safetensors")
    os.symlink("c.safetensors", "c.wav")
    with pytest.raises(ModelError, match="is the input"):
        audiovae.decode_file(model, "c.safetensors", "c.wav")
    assert (here / "a.wav").read_bytes() == (here / "b.safetensors").read_bytes() == before
    assert audiovae.read_latents("c.safetensors").length == 2205


def test_an_earlier_output_is_written_over(here, model_dir, monkeypatch):
    shutil.copy("a.wav", "out.wav")
    assert run(monkeypatch, "reconstruct", model_dir, "a.wav", "out.wav") == 0
    assert (here / "out.wav").read_bytes() != (here / "a.wav").read_bytes()


@pytest.mark.parametrize(
    "read", [lambda path: read_recording(path, RATE), audiovae.read_latents], ids=["audio", "coded"]
)
def test_what_is_wrong_with_a_file_is_said(read, tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    os.symlink("gone.wav", tmp_path / "link.wav")
    for name, said in {
        "nope.wav": "it does not exist",
        "a\0b.wav": "it does not exist",
        "link.wav": "it is a link to a file that does not exist",
        ".": "it is a folder",
        "empty.wav": "it is empty: 0 bytes",
        "empty.wav/x": "Not a directory",
    }.items():
        with pytest.raises(ModelError, match="cannot be read as ") as caught:
            read(tmp_path / name)
        assert f"({said})" in str(caught.value)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from([("WAV", "PCM_16"), ("WAV", "FLOAT"), ("AIFF", "PCM_24"), ("FLAC", "PCM_16")]),
    frames=st.integers(100, 3000),
    kept=st.floats(0, 1),
)
def test_a_truncated_file_is_told(tmp_path, kind, frames, kept):
    path = tmp_path / "a.audio"
    soundfile.write(path, plucked(3, frames), RATE, format=kind[0], subtype=kind[1])
    assert len(read_recording(path, RATE)) == frames
    content = path.read_bytes()
    header = 200
    length = header + int(kept * (len(content) - header - 8)) if len(content) > header + 8 else 0
    path.write_bytes(content[:length])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = len(read_recording(path, RATE))
        except ModelError as error:
            found, refusal = 0, str(error)
    if not found:
        assert re.search(r"only .*; get a complete copy|cannot be read as audio|empty", refusal)
        return
    assert 0.4 * frames < found < frames
    assert any("a.audio: truncated or damaged: " in str(warning.message) for warning in caught)


def test_a_wav_whose_writer_did_not_know_its_length_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", plucked(1), RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    for promise in (b"\xff\xff\xff\xff", b"\0\0\xff\x7f"):
        content[4:8] = content[40:44] = promise
        (tmp_path / "a.wav").write_bytes(content)
        assert len(read_recording(tmp_path / "a.wav", RATE)) == 2205


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=50))
def test_clipped_samples_are_counted(tmp_path, values):
    beyond = sum(abs(value) > 1 for value in values)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_recording(tmp_path / "a.wav", torch.tensor(values), RATE)
        write_recording(tmp_path / "b.wav", np.array(values), RATE)
    assert [warning.category for warning in caught] == [ModelWarning] * (2 * bool(beyond))
    if beyond:
        assert (
            f"a.wav: {beyond} of {len(values)} samples ({100 * beyond / len(values):.2g} %) were beyond full scale"
            in (str(caught[0].message))
        )
    found = soundfile.read(tmp_path / "a.wav")[0]
    np.testing.assert_allclose(found, np.clip(values, -1, 1), atol=1 / 32768)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_the_commands_say_in_one_line_that_they_clipped(model_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "audiovae.recordings.files.reconstructed", lambda model, source, *_: [4 * source.read(0, source.length)]
    )
    soundfile.write(tmp_path / "a.wav", plucked(1), RATE)
    for name in ("b.wav", "c.wav"):  # the second time too
        assert run(monkeypatch, "reconstruct", model_dir, tmp_path / "a.wav", tmp_path / name) == 0
        said = capsys.readouterr().err
        assert said.startswith(f"warning: {tmp_path / name}: ")
        assert said.count("\n") == 1
