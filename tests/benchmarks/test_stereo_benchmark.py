"""The benchmark of stereo: what a mono model loses, and what does not fit."""

import json
import os

import numpy as np
import pytest
import soundfile
import torch

import audiovae
from benchmarks.__main__ import main
from benchmarks.stereo.command import side_energy_error
from shards.building.build import build

RATE, SAMPLES = 22050, 2205
MODEL = {"trunk": {"strides": [15, 7], "channels": [16, 16], "blocks": 1, "kernel": 3}, "latent": 8}


@pytest.fixture(autouse=True)
def surroundings():
    """The engine sets variables of the environment, which later tests must not inherit."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data sets of noise, which differs on both sides, in `stereo` and `mono`, and a model for each."""
    folder = tmp_path_factory.mktemp("stereo")
    (folder / "audio").mkdir()
    rng = np.random.default_rng(0)
    for name in "abcd":
        soundfile.write(folder / "audio" / f"{name}.wav", 0.1 * rng.standard_normal((RATE, 2)), RATE)
    for name, channels in (("stereo", 2), ("mono", 1)):
        sizes = {"samples": SAMPLES, "hop": SAMPLES, "channels": channels}
        build(folder / "audio", folder / name, valid=0.25, workers=1, **sizes)
        torch.manual_seed(0)
        model = audiovae.build("vae", MODEL, SAMPLES, RATE, audio_channels=channels)
        audiovae.save(model.eval(), folder / f"{name}-model")
    audiovae.save(audiovae.build("vae", MODEL, 2 * SAMPLES, RATE).eval(), folder / "long-model")
    return folder


def test_a_mono_model_has_no_side(folder, capsys):
    runs = [str(folder / f"{name}-model") for name in ("stereo", "mono")]
    out = folder / "rows.json"
    assert main(["stereo", str(folder / "stereo"), *runs, "--chunks", "5", "--out", str(out)]) == 0
    assert "kbit/s" in capsys.readouterr().out
    ideal, stereo, mono = json.loads(out.read_text())["rows"]
    assert [row["model"] for row in (ideal, stereo, mono)] == ["mono of the recordings", *runs]
    assert ideal["mid_si_sdr"] > 60
    assert ideal["mid_mel"] < 1e-3
    for row in (ideal, mono):
        assert row["side_energy_error_db"] == 100
        assert row["side_si_sdr"] == -50
    assert stereo["side_energy_error_db"] < 50
    assert stereo["side_si_sdr"] > -50
    assert stereo["kbit/s"] > 0
    assert mono["kbit/s"] > 0


def test_the_error_of_the_side_is_in_decibels():
    audio = torch.randn(3, 2, 100)
    audio[1, 1] = audio[1, 0]
    output = audio.clone()
    output[0] = 0.5 * audio[0]
    output[2, 1] = output[2, 0]
    found = side_energy_error(audio, output)
    assert found[0].item() == pytest.approx(20 * np.log10(2), abs=1e-4)
    assert found[1].isnan()
    assert found[2].item() == 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mono", "mono-model"], "mono: is mono; build it with --channels 2"),
        (["stereo", "nothing"], "nothing"),
        (["nothing", "mono-model"], "nothing"),
        (["stereo", "long-model"], "long-model: takes 4410 samples at 22050 Hz, and the data set has 2205"),
        (["stereo", "mono-model", "--chunks", "0"], "--chunks 0: choose 1 or more"),
    ],
)
def test_what_does_not_fit_is_one_line(words, said, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["stereo", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
