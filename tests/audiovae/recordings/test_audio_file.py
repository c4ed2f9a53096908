"""Files of all kinds as recordings, and recordings as files."""

import re

import numpy as np
import pytest
import soundfile
import soxr
import torch

from audiovae import ModelError, ModelWarning
from audiovae.recordings.audio_file import read_recording, write_recording
from shards.audio.errors import DecodingError
from shards.audio.libsndfile import BLOCK
from shards.audio.recording import Decoder

RATE = 22050


def sound(frames: int, channels: int = 1) -> np.ndarray:
    return 0.3 * np.random.default_rng(0).standard_normal((frames, channels)).clip(-3, 3).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, RATE, 44100])
@pytest.mark.parametrize("frames", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 77])
def test_reading_in_blocks_is_reading_at_once(tmp_path, rate, frames):
    audio = sound(frames, 2)
    soundfile.write(tmp_path / "a.wav", audio, rate, subtype="FLOAT")
    expected = audio.mean(1) if rate == RATE else soxr.resample(audio.mean(1), rate, RATE, quality="HQ")
    found = read_recording(tmp_path / "a.wav", RATE).numpy()
    assert abs(len(found) - len(expected)) <= 1
    length = min(len(found), len(expected))
    np.testing.assert_allclose(found[:length], expected[:length], atol=1e-5)


@pytest.mark.parametrize("claimed", [0, 2**36 - 1], ids=["none", "much too long"])
def test_a_flac_whose_header_does_not_know_its_length_is_read_to_its_end(tmp_path, claimed):
    """As streams have it. libsndfile cannot read them to their end, FFmpeg does."""
    soundfile.write(tmp_path / "a.flac", sound(30000), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] = content[21] & 0xF0 | claimed >> 32
    content[22:26] = (claimed & 0xFFFFFFFF).to_bytes(4, "big")
    (tmp_path / "a.flac").write_bytes(content)
    assert len(read_recording(tmp_path / "a.flac", RATE)) == 30000


@pytest.mark.parametrize("name", ["song.raw", "song.mp3", "sub", b"s\xf6ng.wav"])
def test_what_cannot_be_read_is_one_line(tmp_path, name):
    (tmp_path / "sub").mkdir()
    (tmp_path / "song.raw").write_bytes(b"12345678")
    path = tmp_path / (name if isinstance(name, str) else name.decode(errors="surrogateescape"))
    with pytest.raises(ModelError, match="cannot be read as audio"):
        read_recording(path, RATE)


@pytest.mark.parametrize("audio", [torch.full((9,), torch.nan), torch.zeros(1, 4)])
def test_what_is_no_sound_is_not_written(tmp_path, audio):
    with pytest.raises(ModelError, match="not written"):
        write_recording(tmp_path / "a.wav", audio, RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus", "aiff", "au", "w64", "caf", "mp3"])
def test_a_download_that_broke_off_is_named_by_the_library_and_by_shards(tmp_path, kind, kept):
    """Part of a song must not become a reconstruction without a word: both decode by the same code."""
    path = tmp_path / f"a.{kind}"
    form = {"opus": ("OGG", "OPUS"), "ogg": ("OGG", "VORBIS"), "mp3": ("MP3", "MPEG_LAYER_III")}.get(kind)
    rate = 48000 if kind == "opus" else 44100
    soundfile.write(path, sound(4 * rate), rate, **({"format": form[0], "subtype": form[1]} if form else {}))
    assert len(read_recording(path, RATE)) == pytest.approx(4 * RATE, rel=0.02)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    decoder = Decoder(RATE, "peak", tmp_path)
    if kept < 0.45 and kind not in ("ogg", "opus", "caf"):  # no length is known
        with pytest.raises(ModelError, match=r"truncated|cannot be read as audio"):
            read_recording(path, RATE)
        with pytest.raises(DecodingError), decoder.read(path):
            pass
        return
    with pytest.warns(ModelWarning, match=r"a\.\w+: .*(truncated|damaged)"):
        audio = read_recording(path, RATE)
    assert len(audio) == pytest.approx(kept * 4 * RATE, abs=0.7 * RATE)
    with decoder.read(path) as recording:
        assert recording.samples == len(audio)
        assert re.search("truncated|damaged", recording.note)


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_refused_before_it_takes_memory(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", sound(3000), RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ModelError, match=f"names a rate of {rate:,} Hz"):
        read_recording(tmp_path / "a.wav", RATE)
