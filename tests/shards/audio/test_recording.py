from dataclasses import dataclass

import numpy as np
import pytest
import soundfile
import soxr

from shards.audio import recording as recording_module
from shards.audio.errors import DecodingError
from shards.audio.recording import Decoder
from tests.shards.conftest import music

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


@dataclass(frozen=True)
class Decoded:
    """All of a recording at once."""

    audio: np.ndarray
    rate: int
    channels: int
    gain: float
    peak: float
    rms: float
    silent: bool
    note: str


def decode(path, rate=22050, level="none"):
    with Decoder(rate, level, path.parent).read(path) as found:
        audio = np.concatenate([block.copy() for block in found.audio()])
        assert len(audio) == found.samples
        assert found.duration_s == found.samples / rate
        facts = (found.rate, found.channels, found.gain, found.peak, found.rms, found.silent, found.note)
        return Decoded(audio, *facts)


@pytest.mark.parametrize(("ending", "subtype"), FORMATS)
def test_every_format_is_read_whole_and_noticed_when_cut(tmp_path, ending, subtype):
    path = tmp_path / f"x.{ending}"
    soundfile.write(path, music(12, 44100, 2), 44100, subtype)
    recording = decode(path, level="none")
    assert recording.rate == 44100
    assert recording.channels == 2
    assert len(recording.audio) == pytest.approx(12 * 22050, abs=60)  # MP3 pads
    data = path.read_bytes()
    for share in (0.3, 0.62, 0.95):
        path.write_bytes(data[: int(share * len(data))])
        if share < 0.45 and ending not in ("ogg", "caf"):  # Ogg announces no length; FFmpeg tells none for a cut CAF
            with pytest.raises(DecodingError):
                decode(path, level="none")
        else:
            cut = decode(path, level="none")
            assert any(word in cut.note for word in ("truncated", "damaged")), cut.note
            assert len(cut.audio) == pytest.approx(share * 12 * 22050, abs=0.8 * 22050)


def test_a_stream_of_unpromised_length_is_read(tmp_path):
    # What an encoder that writes to a pipe leaves: sizes it could not go back to fill in.
    path = tmp_path / "x.wav"
    soundfile.write(path, music(1, 22050), 22050, "PCM_16")
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(decode(path, level="none").audio) == 22050


def test_samples_at_the_same_rate_are_untouched(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 300_000).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 22050, "PCM_16")
    np.testing.assert_array_equal(decode(tmp_path / "x.wav", level="none").audio, samples)


def test_channels_are_averaged(tmp_path):
    sides = np.array([[1000, 3000], [-2000, 2000]] * 500, np.int16)
    soundfile.write(tmp_path / "x.wav", sides, 22050, "PCM_16")
    assert decode(tmp_path / "x.wav", level="none").audio[:2].tolist() == [2000, 0]


def test_levels(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, 0.1 * music(3, 44100), 44100, "FLOAT")
    plain, peak, rms = (decode(path, level=level) for level in ("none", "peak", "rms"))
    assert plain.gain == 1
    assert np.abs(peak.audio.astype(int)).max() == pytest.approx(0.95 * 32768, abs=1)
    assert np.sqrt((rms.audio / 32768.0) ** 2).max() < 0.99
    assert np.sqrt(((rms.audio / 32768.0) ** 2).mean()) == pytest.approx(0.1, rel=1e-3)
    assert peak.gain == pytest.approx(0.95 / plain.peak)
    click = np.zeros(22050)
    click[100] = 0.5
    soundfile.write(path, click, 22050, "FLOAT")
    assert np.abs(decode(path, level="rms").audio).max() == pytest.approx(0.99 * 32768, abs=1)


def test_silence_is_not_amplified(tmp_path):
    quiet = np.full(5000, 0.5e-4)
    soundfile.write(tmp_path / "x.wav", quiet, 22050, "FLOAT")
    recording = decode(tmp_path / "x.wav", level="peak")
    assert recording.silent
    assert recording.gain == 1
    assert "silent" in recording.note


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    audio = music(1, 22050)
    audio[20_000] = value
    soundfile.write(tmp_path / "x.wav", audio, 22050, "FLOAT")
    with pytest.raises(DecodingError, match="not finite"):
        decode(tmp_path / "x.wav", level="peak")


@pytest.mark.parametrize("name", ["x.wav", "x.mp3", "x.raw", "x"])
def test_what_is_no_audio(tmp_path, name):
    (tmp_path / name).write_bytes(b"no audio at all " * 99)
    with pytest.raises(DecodingError, match="unreadable"):
        decode(tmp_path / name, level="peak")
    with pytest.raises(DecodingError, match="unreadable"):
        decode(tmp_path / "missing", level="peak")


def test_empty(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(0), 22050)
    with pytest.raises(DecodingError, match="empty"):
        decode(tmp_path / "x.wav", level="peak")


def test_damage_in_the_middle_of_a_flac(tmp_path):
    soundfile.write(tmp_path / "x.flac", music(5, 44100), 44100)
    data = bytearray((tmp_path / "x.flac").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 5000] = bytes(5000)
    (tmp_path / "x.flac").write_bytes(data)
    damaged = decode(tmp_path / "x.flac", level="peak")
    assert damaged.note.startswith("truncated or damaged: 4.9")
    assert 4 * 22050 < len(damaged.audio) < 5 * 22050


def test_a_long_recording_waits_in_a_file_and_gives_the_same(tmp_path, monkeypatch):
    long = np.concatenate([music(40, 44100, 2, seed) for seed in range(3)])
    soundfile.write(tmp_path / "x.flac", long, 44100)
    for level in ("peak", "rms", "none"):
        whole = decode(tmp_path / "x.flac", level=level)
        files = []
        original = recording_module.tempfile.TemporaryFile

        def note(*arguments, files=files, original=original, **named):
            files.append(original(*arguments, **named))
            return files[-1]

        with monkeypatch.context() as patch:
            patch.setattr(recording_module, "IN_MEMORY", 1_000_000)
            patch.setattr(recording_module.tempfile, "TemporaryFile", note)
            spooled = decode(tmp_path / "x.flac", level=level)
        assert len(files) == 1
        assert files[0].closed
        np.testing.assert_array_equal(spooled.audio, whole.audio)
        assert (spooled.peak, spooled.rms, spooled.gain) == (whole.peak, whole.rms, whole.gain)
    assert [path.name for path in tmp_path.iterdir()] == ["x.flac"]


@pytest.mark.parametrize("rate", [4000, 22050, 44100, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_rate_and_number_of_channels(tmp_path, rate, channels):
    audio = music(7, rate, channels)
    soundfile.write(tmp_path / "x.wav", audio, rate, "FLOAT")
    found = decode(tmp_path / "x.wav")
    mono = audio.astype(np.float32).reshape(len(audio), channels).mean(axis=1)
    expected = soxr.resample(mono, rate, 22050, "HQ")
    assert len(found.audio) == len(expected)
    assert np.abs(found.audio - np.clip(expected * 32768, -32768, 32767)).max() < 0.6
    assert found.rms == pytest.approx(np.sqrt((expected.astype(float) ** 2).mean()), rel=1e-5)


def test_sixteen_bits_are_read_as_they_are(tmp_path):
    """The same samples as 16-bit integers and as floating point give the same bytes."""
    samples = np.random.default_rng(0).integers(-32768, 32768, (200_000, 3)).astype(np.int16)
    soundfile.write(tmp_path / "short.wav", samples, 44100, "PCM_16")
    soundfile.write(tmp_path / "float.wav", samples / 32768, 44100, "FLOAT")
    short, wide = decode(tmp_path / "short.wav", level="rms"), decode(tmp_path / "float.wav", level="rms")
    np.testing.assert_array_equal(short.audio, wide.audio)
    assert (short.peak, short.rms) == (wide.peak, wide.rms)


def test_progress_adds_up_to_the_length(tmp_path):
    soundfile.write(tmp_path / "x.wav", music(9, 44100), 44100)
    heard = []
    with Decoder(22050, "none", tmp_path).read(tmp_path / "x.wav", heard.append):
        pass
    assert len(heard) > 5
    assert sum(heard) == pytest.approx(9)


def test_a_scratch_folder_that_cannot_be_written_is_no_fault_of_the_recording(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "x.wav", music(9, 44100), 44100)
    monkeypatch.setattr(recording_module, "IN_MEMORY", 1000)
    with (
        pytest.raises(OSError, match="nowhere"),
        Decoder(22050, "none", tmp_path / "nowhere").read(tmp_path / "x.wav"),
    ):
        pass
