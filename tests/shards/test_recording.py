import numpy as np
import pytest
import soundfile
from conftest import music

from shards.building.recording import RecordingError, read_recording

FORMATS = [
    ("wav", "PCM_16"),
    ("wav", "FLOAT"),
    ("flac", "PCM_16"),
    ("ogg", "VORBIS"),
    ("mp3", "MPEG_LAYER_III"),
    ("aiff", "PCM_24"),
    ("au", "PCM_16"),
    ("w64", "PCM_16"),
    ("rf64", "PCM_16"),
    ("caf", "PCM_16"),
]


@pytest.mark.parametrize(("ending", "subtype"), FORMATS)
def test_every_format_is_read_whole_and_noticed_when_cut(tmp_path, ending, subtype):
    path = tmp_path / f"x.{ending}"
    soundfile.write(path, music(12, 44100, 2), 44100, subtype)
    recording = read_recording(path, 22050, "none")
    assert recording.rate == 44100
    assert recording.channels == 2
    assert len(recording.audio) == pytest.approx(12 * 22050, abs=60)  # MP3 pads
    data = path.read_bytes()
    for share in (0.3, 0.62, 0.95):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(RecordingError):
            read_recording(path, 22050, "none")


def test_a_stream_of_unpromised_length_is_read(tmp_path):
    # What an encoder that writes to a pipe leaves: sizes it could not go back to fill in.
    path = tmp_path / "x.wav"
    soundfile.write(path, music(1, 22050), 22050, "PCM_16")
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(read_recording(path, 22050, "none").audio) == 22050


def test_samples_at_the_same_rate_are_untouched(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 300_000).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 22050, "PCM_16")
    np.testing.assert_array_equal(read_recording(tmp_path / "x.wav", 22050, "none").audio, samples)


def test_channels_are_averaged(tmp_path):
    sides = np.array([[1000, 3000], [-2000, 2000]] * 500, np.int16)
    soundfile.write(tmp_path / "x.wav", sides, 22050, "PCM_16")
    assert read_recording(tmp_path / "x.wav", 22050, "none").audio[:2].tolist() == [2000, 0]


def test_levels(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, 0.1 * music(3, 44100), 44100, "FLOAT")
    plain, peak, rms = (read_recording(path, 22050, level) for level in ("none", "peak", "rms"))
    assert plain.gain_db == 0
    assert np.abs(peak.audio.astype(int)).max() == pytest.approx(0.95 * 32768, abs=1)
    assert np.sqrt((rms.audio / 32768.0) ** 2).max() < 0.99
    assert np.sqrt(((rms.audio / 32768.0) ** 2).mean()) == pytest.approx(0.1, rel=1e-3)
    assert peak.gain_db == pytest.approx(20 * np.log10(0.95 / plain.peak), abs=1e-6)
    click = np.zeros(22050)
    click[100] = 0.5
    soundfile.write(path, click, 22050, "FLOAT")
    assert np.abs(read_recording(path, 22050, "rms").audio).max() == pytest.approx(0.99 * 32768, abs=1)


def test_silence_is_not_amplified(tmp_path):
    quiet = np.full(5000, 0.5e-4)
    soundfile.write(tmp_path / "x.wav", quiet, 22050, "FLOAT")
    recording = read_recording(tmp_path / "x.wav", 22050, "peak")
    assert recording.silent
    assert recording.gain_db == 0
    assert "silent" in recording.note


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    audio = music(1, 22050)
    audio[20_000] = value
    soundfile.write(tmp_path / "x.wav", audio, 22050, "FLOAT")
    with pytest.raises(RecordingError, match="not finite"):
        read_recording(tmp_path / "x.wav", 22050, "peak")


@pytest.mark.parametrize("name", ["x.wav", "x.mp3", "x.raw", "x"])
def test_what_is_no_audio(tmp_path, name):
    (tmp_path / name).write_bytes(b"no audio at all " * 99)
    with pytest.raises(RecordingError, match="unreadable"):
        read_recording(tmp_path / name, 22050, "peak")
    with pytest.raises(RecordingError, match="unreadable"):
        read_recording(tmp_path / "missing", 22050, "peak")


def test_empty(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(0), 22050)
    with pytest.raises(RecordingError, match="empty"):
        read_recording(tmp_path / "x.wav", 22050, "peak")


def test_damage_in_the_middle_of_a_flac(tmp_path):
    soundfile.write(tmp_path / "x.flac", music(5, 44100), 44100)
    data = bytearray((tmp_path / "x.flac").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 5000] = bytes(5000)
    (tmp_path / "x.flac").write_bytes(data)
    with pytest.raises(RecordingError):
        read_recording(tmp_path / "x.flac", 22050, "peak")
