"""Which channels are used, and the levels and notes that follow from what a recording holds."""

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiovae.recordings.overlap_add import gain_of
from shards.audio.belief import is_serious
from shards.audio.levels import BLOCK, LEVELS, PEAK, block_peaks, robust_peak
from shards.audio.mixing import Channels, parse_channels
from shards.audio.recording import Decoder
from shards.building.build import build
from shards.errors import DataError
from shards.manifest import Manifest

RATE = 22050


def heard(path, folder, level="none", channels="mean"):
    with Decoder(RATE, level, folder, channels).read(path) as recording:
        audio = np.concatenate([block.copy() for block in recording.audio()]) / 32768
        return recording, audio


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("mean", Channels()),
        ("louder", Channels(louder=True)),
        ("left", Channels((0,))),
        ("right", Channels((1,))),
        ("3", Channels((2,))),
        ("2,1,2", Channels((0, 1))),
    ],
)
def test_names_of_channels(text, right):
    assert parse_channels(text) == right


@pytest.mark.parametrize("text", ["", "0", "1,", "-1", "Left", "1;2", "1000"])
def test_no_names_of_channels(text, tmp_path):
    with pytest.raises(ValueError, match="names no channels: give mean, left, right, louder or numbers"):
        parse_channels(text)
    with pytest.raises(DataError, match="--use_channels"):
        build(tmp_path, tmp_path / "out", use_channels=text)


def test_the_channels_that_are_asked_for_are_used(tmp_path):
    sides = 0.2 * np.random.default_rng(0).standard_normal((30000, 3)) * [0.5, 1.0, 0.7]
    soundfile.write(tmp_path / "three.wav", sides, RATE, "FLOAT")
    soundfile.write(tmp_path / "mono.wav", sides[:, 1], RATE, "FLOAT")
    wanted = {
        "mean": sides.mean(axis=1),
        "left": sides[:, 0],
        "right": sides[:, 1],
        "louder": sides[:, 1],
        "1,3": sides[:, [0, 2]].mean(axis=1),
        "7": sides[:, 2],
    }
    for channels, right in wanted.items():
        recording, audio = heard(tmp_path / "three.wav", tmp_path, channels=channels)
        assert np.abs(audio - right).max() < 1e-4, channels
        assert recording.note == (
            "channels: it has only 3, so the last is used for channel 7" if channels == "7" else ""
        )
        recording, audio = heard(tmp_path / "mono.wav", tmp_path, channels=channels)
        assert np.abs(audio - sides[:, 1]).max() < 1e-4, channels
        assert recording.note == ""


def test_channels_that_cancel_are_found_among_those_that_are_used(tmp_path):
    side = 0.2 * np.random.default_rng(0).standard_normal(30000)
    soundfile.write(tmp_path / "four.wav", np.stack([side, -side, 0.5 * side, -0.51 * side], axis=1), RATE, "FLOAT")
    recording, audio = heard(tmp_path / "four.wav", tmp_path, channels="3,4")
    assert recording.note == "cancelling: its channels cancel each other, so only channel 4 is used"
    assert np.abs(audio + 0.51 * side).max() < 1e-4


def test_a_click_is_named_and_the_robust_level_leaves_it_out(tmp_path):
    music = 0.001 * np.sin(np.arange(20 * RATE) * 0.05)
    music[5 * RATE] = 1.0
    soundfile.write(tmp_path / "click.wav", music, RATE, "FLOAT")
    recording, audio = heard(tmp_path / "click.wav", tmp_path, "peak")
    assert recording.note == "click: a moment of it is 60 dB above all others, which --level robust leaves out"
    assert not is_serious(recording.note)
    recording, audio = heard(tmp_path / "click.wav", tmp_path, "robust")
    assert np.abs(np.delete(audio, 5 * RATE)).max() == pytest.approx(PEAK, abs=1e-3)
    assert audio[5 * RATE] == pytest.approx(1.0, abs=1e-4)
    assert recording.note.startswith("clipped: its peak is 950.00 of full scale at its level; click: ")


@given(st.integers(1, 5 * BLOCK), st.integers(0, 99), st.sampled_from(LEVELS))
def test_a_model_hears_a_recording_at_the_level_of_the_shards(samples, seed, level):
    audio = np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * 0.1
    peaks = block_peaks(audio)
    assert peaks.max() == np.abs(audio).max()
    assert len(peaks) == -(-samples // BLOCK)
    assert robust_peak(peaks) <= peaks.max()
    assert gain_of(torch.from_numpy(audio), level) > 0


def test_the_robust_peak_leaves_out_one_block_in_a_thousand():
    peaks = np.arange(1, 5001, dtype=np.float32)
    assert robust_peak(peaks) == 4995
    assert robust_peak(peaks[:19]) == 19
    assert robust_peak(peaks[:20]) == 19


def test_chunks_that_repeat_are_named(tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()
    draw = np.random.default_rng(0)
    soundfile.write(audio / "stuck.wav", np.tile(0.1 * draw.standard_normal(1000), 30), RATE)
    soundfile.write(audio / "good.wav", 0.1 * draw.standard_normal(30000), RATE)
    soundfile.write(audio / "pause.wav", np.concatenate([0.1 * draw.standard_normal(9000), np.zeros(20000)]), RATE)
    build(audio, tmp_path / "set", samples=2000, hop=1000, workers=1)
    notes = {source.path: source.note for source in Manifest.load(tmp_path / "set").sources}
    assert notes == {
        "good.wav": "",
        "pause.wav": "",
        "stuck.wav": "repeating: 27 chunks have the samples of the one before",
    }
    assert is_serious(notes["stuck.wav"])
