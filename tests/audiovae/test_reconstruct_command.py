"""`python -m audiovae reconstruct`, as a person runs it and what it says when something is amiss."""

import sys

import numpy as np
import pytest
import soundfile
from tiny_models import awake, command, plucked

import audiovae
from audiovae.__main__ import main


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """A run folder with a model that passes low tones without any training."""
    folder = tmp_path_factory.mktemp("run")
    audiovae.save(awake("vae"), folder / "model")
    return folder


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    """Two channels at 44.1 kHz, 0.5 s."""
    path = tmp_path_factory.mktemp("songs") / "a song.flac"
    left = plucked(1, 22050, 44100)
    soundfile.write(path, np.stack([left, 0.5 * left], axis=1), 44100)
    return path


def error_line(capsys, monkeypatch, *arguments: object) -> str:
    """What the command says when it fails: exit code 1, one line, no traceback."""
    monkeypatch.setattr(sys, "argv", ["audiovae", *map(str, arguments)])
    assert main() == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_stereo_flac_becomes_a_mono_wav(model_dir, song, tmp_path):
    output = tmp_path / "new folder" / "out.wav"
    done = command("reconstruct", model_dir, song, output)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{output}: 0.5 s at 22050 Hz" in done.stdout
    audio, rate = soundfile.read(output)
    assert (rate, audio.shape) == (22050, (11025,))
    original = soundfile.read(song)[0].mean(1)[::2]
    assert np.corrcoef(audio, original)[0, 1] > 0.5
    assert 0.3 < np.abs(audio).max() / np.abs(original).max() < 2


def test_an_error_is_one_line_and_exit_code_one(tmp_path, song):
    done = command("reconstruct", tmp_path / "no model", song, tmp_path / "out.wav")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {tmp_path / 'no model'}: no config.json there")
    assert done.stderr.count("\n") == 1


def test_a_missing_input(capsys, monkeypatch, model_dir, tmp_path):
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, tmp_path / "gone.wav", tmp_path / "out.wav")
    assert "gone.wav: cannot be read as audio" in line


def test_an_input_that_is_no_audio(capsys, monkeypatch, model_dir, tmp_path):
    (tmp_path / "notes.wav").write_text("la la la")
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, tmp_path / "notes.wav", tmp_path / "out.wav")
    assert "notes.wav: cannot be read as audio" in line
    assert "cannot be read" in error_line(capsys, monkeypatch, "reconstruct", model_dir, tmp_path, tmp_path / "out.wav")


@pytest.mark.parametrize("values", [[], [0.5], [0.1, np.nan, 0.2, 0.1] * 100], ids=["empty", "one sample", "NaN"])
def test_an_input_without_usable_audio(capsys, monkeypatch, model_dir, tmp_path, values):
    soundfile.write(tmp_path / "in.wav", np.array(values), 96000, subtype="FLOAT")
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, tmp_path / "in.wav", tmp_path / "out.wav")
    assert "holds no audio" in line
    assert not (tmp_path / "out.wav").exists()


def test_an_output_that_is_not_wav(capsys, monkeypatch, model_dir, song, tmp_path):
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, song, tmp_path / "out.mp3")
    assert "out.mp3: the output is a WAV file" in line


def test_an_output_that_cannot_be_written(capsys, monkeypatch, model_dir, song, tmp_path):
    (tmp_path / "file").write_text("")
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, song, tmp_path / "file" / "out.wav")
    assert "cannot be written" in line


@pytest.mark.parametrize("overlap", ["-0.1", "0.51"])
def test_an_overlap_out_of_range(capsys, monkeypatch, model_dir, song, tmp_path, overlap):
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, song, tmp_path / "out.wav", f"--overlap={overlap}")
    assert "choose 0 to 0.5" in line


def test_an_unknown_device(capsys, monkeypatch, model_dir, song, tmp_path):
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, song, tmp_path / "out.wav", "--device=tpu")
    assert "--device tpu: choose cpu" in line
