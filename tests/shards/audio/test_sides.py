"""Stereo: which channels are left and right, one gain for both, and recordings with one silent side."""

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from shards.audio import recording as recording_module
from shards.audio.levels import BLOCK, LEVELS, block_peaks
from shards.audio.mixing import Channels, Mixer, parse_channels
from shards.audio.recording import Decoder
from shards.building.build import build
from shards.errors import DataError

RATE = 22050


def heard(path, level="none", channels="mean", outputs=2, keep_one_sided=False):
    """A recording and its samples, [n, 2] or [n], full scale 1."""
    decoder = Decoder(RATE, level, path.parent, channels, outputs, keep_one_sided)
    with decoder.read(path) as found:
        audio = np.concatenate([block.copy() for block in found.audio()]) / 32768
        assert len(audio) == found.samples * outputs
        return found, audio.reshape(-1, outputs) if outputs == 2 else audio


def noise(channels: int, samples: int = 30_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels)) * np.linspace(0.5, 1, channels)


def written(folder, name: str, audio: np.ndarray, rate: int = RATE):
    soundfile.write(folder / name, audio, rate, "FLOAT", format="WAV")
    return folder / name


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("mean", Channels()),
        ("louder", Channels(louder=True)),
        ("right", Channels((1,))),
        ("3", Channels((2,))),
        ("4,3", Channels((3, 2))),
        ("1,1", Channels((0, 0))),
    ],
)
def test_names_of_channels_for_stereo(text, right):
    assert parse_channels(text, 2) == right


def test_stereo_takes_at_most_two_channels(tmp_path):
    with pytest.raises(ValueError, match="1,2,3 names 3 channels: stereo has two"):
        parse_channels("1,2,3", 2)
    with pytest.raises(DataError, match="--use_channels 1,2,3 names 3 channels"):
        build(tmp_path, tmp_path / "out", channels=2, use_channels="1,2,3")


def test_the_channels_that_are_asked_for_are_left_and_right(tmp_path):
    sides = noise(4)
    four, two = written(tmp_path, "four", sides), written(tmp_path, "two", sides[:, :2])
    one = written(tmp_path, "one", sides[:, 0])
    wanted = {"mean": (0, 1), "left": (0, 0), "right": (1, 1), "louder": (3, 3), "3,4": (2, 3), "4,3": (3, 2)}
    for channels, (left, right) in (wanted | {"2": (1, 1)}).items():
        found, audio = heard(four, channels=channels)
        assert np.abs(audio - sides[:, [left, right]]).max() < 2**-15, channels
        first_two = "channels: it has 4, so the first two are left and right"
        assert found.note == (first_two if channels == "mean" else "")
        assert np.abs(heard(one, channels=channels)[1] - sides[:, [0, 0]]).max() < 2**-15
    assert np.abs(heard(two)[1] - sides[:, :2]).max() < 2**-15
    found, audio = heard(two, channels="2,3")
    assert found.note == "channels: it has only 2, so the last is used for channel 3"
    assert np.abs(audio - sides[:, [1, 1]]).max() < 2**-15


@pytest.mark.parametrize("silent", [0, 1])
@pytest.mark.parametrize("faint", [0.0, 0.0005])
def test_the_side_with_sound_goes_to_both(tmp_path, silent, faint):
    """66 dB below the other side is silence, 54 dB is sound."""
    sides = noise(2) / [0.5, 1]
    sides[:, silent] *= faint
    path = written(tmp_path, "x", sides)
    found, audio = heard(path)
    assert found.note == f"one-sided: only channel {2 - silent} has sound, so it is on both sides"
    assert np.abs(audio - sides[:, [1 - silent] * 2]).max() < 2**-15
    kept, as_recorded = heard(path, keep_one_sided=True)
    assert kept.note == ""
    assert np.abs(as_recorded - sides).max() < 2**-15
    sides[:, silent] = 0.002 * sides[::-1, 1 - silent]
    assert heard(written(tmp_path, "y", sides))[0].note == ""


def test_the_used_pair_decides_what_is_one_sided(tmp_path):
    sides = noise(6)
    sides[:, 3] = 0
    path = written(tmp_path, "six", sides)
    assert "one-sided" not in heard(path)[0].note
    found, audio = heard(path, channels="4,5")
    assert found.note == "one-sided: only channel 5 has sound, so it is on both sides"
    assert np.abs(audio - sides[:, [4, 4]]).max() < 2**-15


def test_sides_that_cancel_each_other_stay_as_recorded(tmp_path):
    side = noise(1)[:, 0]
    found, audio = heard(written(tmp_path, "x", np.stack([side, -side], 1)))
    assert found.note == ""
    assert np.abs(audio[:, 0] + audio[:, 1]).max() <= 2**-15
    assert np.abs(audio[:, 0] - side).max() < 2**-15


@pytest.mark.parametrize("level", LEVELS)
def test_one_gain_is_for_both_sides(tmp_path, level):
    sides = noise(2, 60_000) * [0.2, 0.05]
    found, audio = heard(written(tmp_path, "x", sides), level)
    assert np.abs(audio - sides * found.gain).max() < 2**-15
    assert found.peak == pytest.approx(np.abs(sides).max())
    assert found.rms == pytest.approx(np.sqrt((sides**2).mean()), rel=1e-5)
    if level == "peak":
        assert np.abs(audio).max() == pytest.approx(0.95, abs=1e-4)
    if level == "rms":
        assert np.sqrt((audio**2).mean()) == pytest.approx(0.1, rel=1e-3)
    # What is on both sides has the level of mono.
    mono = heard(written(tmp_path, "mono", sides[:, 0]), level, outputs=1)
    both = heard(tmp_path / "mono", level)
    assert both[0].gain == pytest.approx(mono[0].gain, rel=1e-6)
    assert np.abs(both[1] - mono[1][:, None]).max() <= 2**-15


@pytest.mark.parametrize("rate", [11025, 48000])
def test_both_sides_are_resampled_together(tmp_path, rate):
    sides = noise(2)
    _, audio = heard(written(tmp_path, "x", sides, rate))
    expected = soxr.resample(sides.astype(np.float32), rate, RATE, "HQ")
    assert abs(len(audio) - len(expected)) <= 1
    count = min(len(audio), len(expected))
    assert np.abs(audio[:count] - expected[:count]).max() < 1e-4


def test_a_long_recording_waits_in_a_file(tmp_path, monkeypatch):
    sides = noise(2, 200_000)
    path = written(tmp_path, "x", sides)
    whole = heard(path, "rms")[1]
    monkeypatch.setattr(recording_module, "IN_MEMORY", 70_000)
    assert np.array_equal(heard(path, "rms")[1], whole)


def test_wild_samples_are_repaired_in_each_channel(tmp_path):
    sides = 0.1 * noise(2)
    wild = sides.copy()
    wild[1000, 0], wild[2000, 1] = 900.0, -40.0
    found, audio = heard(written(tmp_path, "x", wild))
    assert found.note == "repaired: 2 single wild samples"
    assert np.abs(audio).max() <= np.abs(sides).max() + 2**-15
    assert np.abs(audio[:, 1] - sides[:, 1])[:2000].max() < 2**-15


def test_a_constant_in_one_side_is_noted(tmp_path):
    sides = 0.1 * noise(2)
    sides[:, 1] += 0.2
    assert "constant: a constant is" in heard(written(tmp_path, "x", sides))[0].note


@given(st.integers(1, 5 * BLOCK), st.integers(0, 2**32 - 1))
def test_block_peaks_are_those_of_the_louder_side(samples, seed):
    audio = np.random.default_rng(seed).uniform(-1, 1, (samples, 2)).astype(np.float32)
    expected = np.maximum(block_peaks(audio[:, 0]), block_peaks(audio[:, 1]))
    assert np.array_equal(block_peaks(audio), expected)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 500)), min_size=1, max_size=6), st.integers(0, 99))
def test_blocks_of_any_channels_become_two(kinds, seed):
    """Files that were joined may have mono and stereo parts."""
    rng = np.random.default_rng(seed)
    blocks = [rng.uniform(-1, 1, (frames, channels)).astype(np.float32) for channels, frames in kinds]
    mixer = Mixer(RATE, outputs=2)
    found = np.concatenate([audio.copy() for block in blocks for audio in mixer.add(block.copy(), RATE)])
    expected = [block[:, :2] if block.shape[1] > 1 else block.repeat(2, axis=1) for block in blocks]
    assert np.array_equal(found, np.concatenate(expected))
