"""`python -m audiovae`, as a person runs it and what it says when something is amiss."""

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


def others(said: str) -> list[str]:
    """Lines on stderr other than that an untrained model's output is clipped."""
    return [line for line in said.splitlines() if "beyond full scale" not in line]


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
    assert done.stderr.startswith(f"error: {tmp_path / 'no model'}: no such folder; pass")
    assert done.stderr.count("\n") == 1


def test_a_missing_input(capsys, monkeypatch, model_dir, tmp_path):
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, tmp_path / "gone.wav", tmp_path / "out.wav")
    assert "gone.wav: cannot be read as audio (it does not exist)" in line


def test_an_input_that_is_no_audio(capsys, monkeypatch, model_dir, tmp_path):
    (tmp_path / "notes.wav").write_text("la la la")
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, tmp_path / "notes.wav", tmp_path / "out.wav")
    assert "notes.wav: cannot be read as audio" in line
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, tmp_path, tmp_path / "out.wav")
    assert "cannot be read as audio (it is a folder)" in line


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "in.wav: empty: it has no samples; get a complete copy, or save it again with an audio editor\n"),
        ([0.5], "in.wav: holds no audio\n"),
        ([0.1, np.nan, 0.2, 0.1] * 100, "in.wav: holds values that are not finite (NaN or infinity)\n"),
    ],
    ids=["empty", "one sample", "NaN"],
)
def test_an_input_without_usable_audio(capsys, monkeypatch, model_dir, tmp_path, values, said):
    soundfile.write(tmp_path / "in.wav", np.array(values), 96000, subtype="FLOAT")
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, tmp_path / "in.wav", tmp_path / "out.wav")
    assert said in line
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


@pytest.mark.parametrize("device", ["tpu", "hpu", "privateuseone"])
def test_an_unknown_device(capsys, monkeypatch, model_dir, song, tmp_path, device):
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, song, tmp_path / "out.wav", f"--device={device}")
    assert f"device {device}: choose cpu" in line


def test_a_name_that_is_too_long(capsys, monkeypatch, model_dir, song, tmp_path):
    line = error_line(capsys, monkeypatch, "reconstruct", model_dir, song, tmp_path / ("x" * 300 + ".wav"))
    assert line.endswith(".wav: File name too long\n")


def test_versions_between_two_recordings(model_dir, song, tmp_path):
    soundfile.write(tmp_path / "other.wav", plucked(2, 8000, 16000), 16000)  # 0.5 s as well
    done = command("interpolate", model_dir, song, tmp_path / "other.wav", tmp_path / "between.wav", "--steps", "3")
    assert (done.returncode, others(done.stderr)) == (0, [])
    audio, rate = soundfile.read(tmp_path / "between.wav")
    assert (rate, len(audio)) == (22050, 3 * 11025 + 2 * 5512)
    assert not audio[11025 : 11025 + 5512].any(), "silence between the versions"
    command("reconstruct", model_dir, song, tmp_path / "first.wav")
    assert np.abs(audio[:11025] - soundfile.read(tmp_path / "first.wav")[0]).max() < 1e-3


def test_chunks_drawn_from_the_prior(model_dir, tmp_path):
    for name, seed in (("a.wav", 1), ("b.wav", 1), ("c.wav", 2)):
        done = command("sample", model_dir, tmp_path / name, "--count", "2", "--seed", seed)
        assert (done.returncode, others(done.stderr)) == (0, [])
    a, b, c = (soundfile.read(tmp_path / name)[0] for name in ("a.wav", "b.wav", "c.wav"))
    assert len(a) == 2 * 2205 + 5512
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["interpolate", "M", "in.wav", "in.wav", "out.wav", "--steps", "1"], "--steps 1: choose 2 to 1000"),
        (["interpolate", "M", "in.wav", "gone.wav", "out.wav"], "gone.wav: cannot be read as audio"),
        (["sample", "M", "out.wav", "--count", "0"], "--count 0: choose 1 to 1000"),
        (["sample", "M", "out.wav", "--temperature", "-1"], "--temperature -1.0: choose 0 to 10"),
        (["sample", "M", "out.ogg"], "name must end in .wav"),
    ],
)
def test_wrong_words(capsys, monkeypatch, model_dir, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    soundfile.write("in.wav", plucked(2, 8000, 16000), 16000)
    line = error_line(capsys, monkeypatch, *(model_dir if word == "M" else word for word in words))
    assert said in line
    assert not list(tmp_path.glob("out.*"))
