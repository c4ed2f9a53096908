"""Thousands of files that were cut, joined and damaged: what is kept and what is named is all that a decoder finds."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.audio import ogg, riff
from shards.audio.belief import is_serious
from shards.audio.ffmpeg import open_ffmpeg
from tests.shards.audio.damaged_files import (
    HEAD,
    LENGTHS,
    RATE,
    Made,
    Outcome,
    damaged,
    found_by_each,
    outcome,
    whole_files,
)
from tests.shards.awkward import tone, written


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    return whole_files(tmp_path_factory.mktemp("wholes"))


def complaint(container: str, made: Made, result: Outcome, found: tuple[float, float]) -> str:
    """What is wrong with the result; empty when nothing is."""
    text = result.note or result.reason
    named = re.search(r"([\d.]+) of ([\d.]+) s", text)
    if "\n" in text or (not result.kept and not result.reason):
        return "the reason is not one line"
    parts = 1 + made.kinds.count("join")  # each may have as much padding
    stream_is_named = "damaged: stream" in text
    if result.kept and result.kept < max(found) - 0.1 * parts and not stream_is_named:
        return "less is kept than a decoder finds"
    refused_whole = named and abs(float(named[1]) - max(found)) <= 0.1
    if not result.kept and max(found) > 0.1 and not (refused_whole or "names a rate" in text):
        return "it is skipped, and the seconds that a decoder finds are not named"
    if not result.kept or {"join", "grow", "header"} & {*made.kinds} or min(made.places) < HEAD:
        return ""
    # The headers are whole, so the length of the recording is known but for Ogg that was cut.
    if container in ("wav", "aiff", "flac", "w64"):
        length = float(named[2]) if named else result.kept
        return "" if abs(length - made.seconds) <= 0.1 else "what is missing is not named"
    lost = made.seconds - result.kept > 0.26  # a packet beside the damage, and what a codec pads
    return "what is missing is not named" if lost and not text and "cut" not in made.kinds else ""


def check(wholes, path: Path, count: int, seed: int, capfd) -> None:
    rng, wrong = np.random.default_rng(seed), []
    names = [*wholes]
    for number in range(count):
        container = names[number % len(names)]
        made = damaged(rng, wholes[container])
        path.write_bytes(made.content)
        capfd.readouterr()
        result = outcome(path)
        assert "Traceback" not in capfd.readouterr().err
        found = found_by_each(path)
        if what := complaint(container, made, result, found):
            wrong.append((what, number, container, made.kinds, made.places, result, found))
    assert not wrong


def test_nothing_is_lost_without_a_word(wholes, tmp_path, capfd):
    check(wholes, tmp_path / "a.audio", 64, 0, capfd)


@pytest.mark.slow(area="building")
@pytest.mark.parametrize("seed", [1, 11])
def test_nothing_is_lost_without_a_word_in_many_files(wholes, tmp_path, capfd, seed):
    check(wholes, tmp_path / "a.audio", 2000, seed, capfd)


@pytest.mark.parametrize("container", ["wav", "aiff", "flac", "ogg", "opus", "mp3", "m4a", "w64", "RF64", "CAF", "AU"])
def test_joined_files_are_read_whole_or_named(wholes, tmp_path, container):
    one, other = wholes.get(container) or [
        written(tone(length, RATE, 1), container, "PCM_16", RATE) for length in LENGTHS
    ]
    path = tmp_path / "a.audio"
    for first, second, seconds in ((one, other, LENGTHS[0]), (other, one, LENGTHS[1])):
        path.write_bytes(first)
        assert riff.second_file(path) is None
        path.write_bytes(first + second)
        result = outcome(path)
        if container in ("flac", "ogg", "opus", "mp3", "w64"):
            assert result.kept == pytest.approx(sum(LENGTHS), abs=0.2)
        else:
            assert result.kept == pytest.approx(seconds, abs=0.1)
            assert f"joined: another file begins at byte {len(first):,}, which is not read" in result.note
            assert is_serious(result.note)


@given(
    st.sampled_from([b"RIFF\4\0\0\0WAVE", b"FORM\0\0\0\4AIFF", b"caff\0\1\0\0", b"\0\0\0\x08ftyp", b".snd"]),
    st.binary(),
)
def test_any_bytes_behind_a_beginning_are_looked_at(tmp_path_factory, start, content):
    path = tmp_path_factory.getbasetemp() / "any.audio"
    path.write_bytes(start + content)
    assert riff.second_file(path) is None or start[:4] in content or b"ftyp" in content


def pages(content: bytes) -> list[int]:
    """Where the pages of an Ogg file begin."""
    return [found.start() for found in re.finditer(b"OggS", content)]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_pages_in_the_middle_that_are_damaged_or_missing_are_named(tmp_path, subtype):
    path = tmp_path / "a.ogg"
    whole = bytearray(written(tone(8, RATE, 1), "OGG", subtype, RATE))
    begins = pages(whole)
    assert len(begins) > 6
    path.write_bytes(whole)
    assert outcome(path) == Outcome(pytest.approx(8, abs=1e-3), "", "")
    flipped = whole.copy()
    flipped[begins[4] + 500] ^= 1
    broken = whole.copy()
    broken[begins[4] : begins[4] + 4] = b"oGGs"
    for content in (flipped, broken, whole[: begins[4]] + whole[begins[5] :]):
        path.write_bytes(content)
        result = outcome(path)
        lost = f"truncated or damaged: {result.kept:.2f} of 8.00 s"
        assert result.note == (lost if result.kept < 7.8 else "damaged: Ogg pages are damaged or missing at 1 places")
    flipped = whole.copy()
    flipped[begins[-1] + 40] ^= 1  # of the last page: nothing tells the length
    path.write_bytes(flipped)
    assert outcome(path).note == "damaged: Ogg pages are damaged or missing at 1 places"


def test_a_stream_whose_beginning_is_lost_is_named(tmp_path):
    path = tmp_path / "a.ogg"
    one, other = (written(tone(4, RATE, 1, seed), "OGG", "OPUS", RATE) for seed in (0, 1))
    # Under its own serial number no decoder finds it; under the same number FFmpeg takes it for more of the first.
    for second, seconds in ((other, 4), (one, 8)):
        path.write_bytes(one + second[pages(second)[1] :])
        result = outcome(path)
        assert result.kept == pytest.approx(seconds, abs=0.2)
        assert result.note == "damaged: the beginning of one of its streams is missing"
        assert is_serious(result.note)


def test_a_broadcast_that_was_joined_announces_no_length(tmp_path):
    """Its pages count from a late one on, and so do the positions in it."""
    path = tmp_path / "a.ogg"
    whole = written(tone(8, RATE, 1), "OGG", "VORBIS", RATE)
    begins = pages(whole)
    path.write_bytes(whole[: begins[2]] + whole[begins[4] :])
    assert ogg.announced_seconds(path, ogg.streams(path)[0], RATE) is None
    assert ogg.damaged_pages(path, ogg.streams(path)[0]) == 0
    assert not outcome(path).note


def test_recordings_of_eight_channels_are_read_by_ffmpeg(tmp_path):
    """PyAV takes what lies behind the eighth pointer for further channels, which ended the process."""
    audio = tone(1, 48000, 8)
    for name, codec in (("a.mka", "flac"), ("a.m4a", "aac"), ("a.mov", "pcm_s16le")):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream(codec, rate=48000, layout="7.1")
            stream.codec_context.open()
            container.start_encoding()
            resampler = av.AudioResampler(stream.codec_context.format.name, "7.1", 48000)
            size = stream.codec_context.frame_size or 4096
            for begin in range(0, len(audio), size):
                frame = av.AudioFrame.from_ndarray(audio[begin : begin + size].reshape(1, -1), "flt", "7.1")
                frame.sample_rate, frame.pts, frame.time_base = 48000, begin, Fraction(1, 48000)
                for ready in resampler.resample(frame):
                    container.mux(stream.encode(ready))
            container.mux(stream.encode(None))
        with open_ffmpeg(tmp_path / name) as file:
            found = np.concatenate([block for block, _ in file.blocks()])
        assert found.shape[1] == file.channels == 8
        assert len(found) == pytest.approx(48000, abs=2048)
        if codec != "aac":
            np.testing.assert_allclose(found, audio, atol=1e-4)
