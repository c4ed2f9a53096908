from collections import Counter

import numpy as np
import pytest
import soundfile

from shards.audio import ogg
from shards.practice import tunes
from shards.practice.tunes import practice


def test_practice_recordings(tmp_path):
    practice(tmp_path / "a", minutes=0.4)
    practice(tmp_path / "b", minutes=0.4)
    practice(tmp_path / "c", minutes=0.4, seed=1)
    files = sorted((tmp_path / "a").iterdir())
    total, kinds = 0.0, Counter()
    for file in files:
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
        assert file.read_bytes() != (tmp_path / "c" / file.name).read_bytes()
        audio, rate = soundfile.read(file, always_2d=True)
        total += len(audio) / rate
        kinds[file.suffix, rate, audio.shape[1]] += 1
        assert 0.4 < np.abs(audio).max() < 0.99  # neither faint nor clipped
        assert np.sqrt((audio**2).mean()) > 0.03
    assert abs(total - 24) < 1
    assert {suffix for suffix, *_ in kinds} == {".wav", ".flac", ".ogg", ".mp3", ".aiff"}
    assert {rate for _, rate, _ in kinds} == {8000, 22050, 32000, 44100, 48000}


def test_an_ogg_under_another_serial_number_is_the_same_audio(tmp_path):
    path = tmp_path / "x.ogg"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(50_000), 22050)
    before = soundfile.read(path)[0]
    path.write_bytes(ogg.with_serial(path.read_bytes(), 5))
    np.testing.assert_array_equal(soundfile.read(path)[0], before)


def test_a_long_ogg_is_written_whole(tmp_path, monkeypatch):
    """libsndfile writes nothing, or crashes, where its Vorbis encoder gets minutes at once."""
    monkeypatch.setattr(tunes, "_FILES", [(48000, 2, "ogg", "VORBIS")])
    practice(tmp_path, minutes=2.5)
    assert soundfile.info(tmp_path / "practice-00.ogg").duration == pytest.approx(150, abs=0.1)
