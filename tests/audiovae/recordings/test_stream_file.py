"""`python -m audiovae stream`: a file block by block, in time with its input."""

import re
import sys

import numpy as np
import pytest
import soundfile
import torch
from tiny_models import RATE, TRUNK, awake, plucked

import audiovae
from audiovae import ModelError
from audiovae.__main__ import main
from audiovae.models.lengths import stretched
from audiovae.recordings import files


@pytest.fixture(scope="module")
def model():
    """A causal VAE that passes low tones without any training."""
    torch.manual_seed(0)
    return audiovae.build("vae", {"trunk": TRUNK | {"causal": True}, "latent": 48}, 2205, RATE).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal")
    audiovae.save(model, folder / "run" / "model")
    soundfile.write(folder / "song.wav", 0.5 * plucked(1, 30000), RATE)
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command with these words; gives exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["audiovae", *map(str, words)])
        return main(), *capsys.readouterr()

    return run


@pytest.mark.parametrize("block", [1 << 20, 512, 3])
def test_the_file_is_what_one_pass_makes(model, folder, tmp_path, monkeypatch, block):
    monkeypatch.setattr(files, "LARGEST_BLOCK", 1 << 20 if block > 3 else 100)
    done = audiovae.stream_file(model, folder / "song.wav", tmp_path / "out.wav", block)
    assert (done.seconds, done.latency, done.rate) == (30000 / RATE, 104, RATE)
    assert 0 < done.real_time_factor < 100
    audio = audiovae.read_recording(folder / "song.wav", RATE)
    gain = 0.95 / audio.abs().max()
    padded = torch.nn.functional.pad(audio * gain, (0, 30030 - 30000)).view(1, 1, -1)
    with torch.no_grad():
        whole = stretched(model, 30030).reconstruct(padded).flatten()[:30000] / gain
    found = soundfile.read(tmp_path / "out.wav")[0]
    np.testing.assert_allclose(found, whole.numpy(), atol=1.01 / 32768)
    assert np.corrcoef(found, audio)[0, 1] > 0.7


def test_a_recording_shorter_than_a_frame(model, tmp_path):
    for length in (1, 104, 105, 106):
        soundfile.write(tmp_path / "a.wav", 0.5 * plucked(1, 200)[:length] + 0.1, RATE)
        audiovae.stream_file(model, tmp_path / "a.wav", tmp_path / "b.wav", 7)
        assert len(soundfile.read(tmp_path / "b.wav")[0]) == length


def test_the_command_prints_latency_and_real_time_factor(run, folder, tmp_path):
    code, out, err = run("stream", folder / "run", folder / "song.wav", tmp_path / "out.wav", "--block", "300")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == f"{tmp_path}/out.wav: 1.4 s at 22050 Hz in blocks of 300 samples, vae of {folder / 'run'}"
    assert re.fullmatch(r"latency 104 samples, 4\.7 ms; real-time factor \d+\.\d{3} \(cpu, \d+ threads?\)", second), (
        second
    )


def test_what_cannot_be_streamed_is_one_line(run, folder, tmp_path):
    audiovae.save(awake("vae"), tmp_path / "plain")
    out = tmp_path / "out.wav"
    code, _, err = run("stream", tmp_path / "plain", folder / "song.wav", out)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"error: {tmp_path / 'plain'}: the model is not causal")
    for block in ("0", "-5", "1048577"):
        code, _, err = run("stream", folder / "run", folder / "song.wav", out, "--block", block)
        assert (code, err) == (1, f"error: --block {block}: choose 1 to 1,048,576\n")
    code, _, err = run("stream", folder / "run", folder / "none.wav", out)
    assert (code, err.count("\n")) == (1, 1)
    assert not out.exists()
    with pytest.raises(ModelError, match="the output is the input"):
        audiovae.stream_file(audiovae.load(folder / "run"), folder / "song.wav", folder / "song.wav")


def test_reconstruct_in_one_pass(run, folder, tmp_path):
    for name, words in (("chunks", ()), ("whole", ("--one_pass", "true"))):
        code, _, err = run("reconstruct", folder / "run", folder / "song.wav", tmp_path / f"{name}.wav", *words)
        assert (code, err) == (0, "")
    chunks, whole = (soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("chunks", "whole"))
    audiovae.stream_file(audiovae.load(folder / "run"), folder / "song.wav", tmp_path / "stream.wav")
    streamed = soundfile.read(tmp_path / "stream.wav")[0]
    np.testing.assert_allclose(whole, streamed, atol=1.01 / 32768)
    assert np.abs(chunks - streamed).max() > 2 / 32768
