"""Awkward recordings: each is kept whole, kept with a note, or named with its reason; shards and the library agree."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audiovae import ModelError
from audiovae.recordings.audio_file import read_recording
from shards.audio import flac, mpeg, ogg, riff
from shards.audio.belief import Heard, first_is_believed, is_serious, judged
from shards.audio.decoding import decode
from shards.audio.errors import DecodingError
from shards.audio.ffmpeg import open_ffmpeg
from shards.audio.libsndfile import open_sndfile
from shards.audio.mixing import Mixer, repair
from shards.building.build import build
from shards.errors import DataError
from shards.manifest import Manifest
from tests.shards.awkward import RATE, make, tone, written


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    folder = tmp_path_factory.mktemp("door")
    return folder / "audio", make((folder / "audio").absolute()) if (folder / "audio").mkdir() is None else {}


@pytest.fixture(scope="module")
def sources(door):
    folder, _ = door
    with pytest.raises(DataError, match="--strict is set"):
        build(folder, folder.parent / "set", workers=1, strict=True)
    return {source.path: source for source in Manifest.load(folder.parent / "set").sources}


def test_every_file_is_kept_whole_or_named(door, sources):
    wrong = {}
    for name, right in door[1].items():
        source = sources[name]
        kept = source.split is not None
        seconds = source.duration_s if kept else 0.0
        noted = source.note.startswith(right.note) if right.note else not source.note
        if abs(seconds - right.seconds) > 0.15 or kept != bool(right.seconds) or not noted:
            wrong[name] = (right, seconds, source.note)
    assert not wrong
    assert sources.keys() == door[1].keys()


def test_the_library_says_the_same(door, sources, recwarn):
    for name, source in sources.items():
        if source.note == "not audio":
            continue
        path = Path(os.fsdecode(os.path.join(os.fsencode(door[0]), os.fsencode(name))))
        recwarn.clear()
        if source.split is None:
            with pytest.raises(ModelError):
                read_recording(path, 22050)
            continue
        audio = read_recording(path, 22050)
        assert len(audio) / 22050 == pytest.approx(source.duration_s, abs=1e-4)
        said = [str(warning.message) for warning in recwarn.list]
        parts = [
            part for part in source.note.split("; ") if part and not part.startswith(("silent", "too", "constant"))
        ]
        assert len(said) == bool(parts), (name, said)
        assert all(part in said[0] for part in parts)


def test_nothing_is_printed_by_the_decoders(door, capfd):
    class Nowhere:
        def add(self, audio):
            pass

        def restart(self):
            pass

    for name in ("mp3/cut.mp3", "mp3/joined.mp3", "mp3/noise.mp3", "flac/cut.flac", "other/list.mp3"):
        try:
            decode(door[0] / name, 22050, Nowhere())
        except DecodingError:
            continue
    assert capfd.readouterr() == ("", "")


# Which decoder is believed, and what is said.

seconds = st.floats(0.01, 1e5)
heard = st.builds(Heard, seconds, st.sampled_from(["", "unreadable: x"]))


@given(heard, heard)
def test_more_audio_is_believed(first, second):
    believed = first_is_believed(first, second)
    if abs(first.seconds - second.seconds) > 0.15:
        assert believed == (first.seconds > second.seconds)
    elif bool(first.problem) != bool(second.problem):
        assert believed == (not first.problem)
    else:
        assert believed


@given(seconds, heard, st.booleans())
@example(10.0, Heard(9.999), True)
@example(10.0, Heard(4.6), False)
def test_what_is_missing_is_said(promised, heard, exact):
    missing = promised - heard.seconds
    if heard.seconds < 0.45 * promised:
        with pytest.raises(DecodingError, match=rf"only {heard.seconds:.2f} of {promised:.2f} s"):
            judged(promised, heard, exact)
        return
    note = judged(promised, heard, exact)
    if missing > 0.15 or (missing > 1e-5 and exact):
        assert is_serious(note)
    elif missing <= 0:
        assert not note


def test_notes_that_are_serious():
    assert not any(map(is_serious, ("", "silent: never", "clipped: its peak", "silent: a; clipped: b")))
    assert all(map(is_serious, ("truncated: x", "silent: a; damaged: b", "repaired: 1", "its header is wrong: x")))
    with pytest.raises(DecodingError, match="empty"):
        judged(None, Heard(0.0))
    assert judged(None, Heard(3.0)) == ""
    assert judged(None, Heard(3.0, "unreadable: x")).startswith("damaged: it cannot be decoded after 3.00 s")


# What the containers say.


def test_a_whole_file_is_under_no_suspicion(tmp_path):
    """Otherwise libsndfile, which is exact and quick about them, would not be used."""
    for length in (1, 100, 4096, 4097, RATE, 200_000):
        for channels in (1, 2):
            audio = tone(1, seed=length, channels=channels).repeat(5, 0)[:length]
            (tmp_path / "a.flac").write_bytes(written(audio, "FLAC", "PCM_16"))
            assert not flac.has_more_samples(tmp_path / "a.flac")
            assert flac._end_of_last_frame((tmp_path / "a.flac").read_bytes()[42:], 4096) in (length, 0)
            (tmp_path / "a.wav").write_bytes(written(audio, "WAV", "PCM_24"))
            assert not riff.has_more_data(tmp_path / "a.wav")
            (tmp_path / "a.ogg").write_bytes(written(audio, "OGG", "VORBIS"))
            assert ogg.streams(tmp_path / "a.ogg") == [(0, (tmp_path / "a.ogg").stat().st_size)]
            assert ogg.ends_whole(tmp_path / "a.ogg")
            assert not any(mpeg.look(tmp_path / name)[0] for name in ("a.flac", "a.wav", "a.ogg"))


@given(st.binary(max_size=400), st.sampled_from(["RIFF", "fLaC", "OggS", "ID3", "Xing"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_bytes_are_looked_at_without_an_error(tmp_path, content, start):
    path = tmp_path / "x"
    path.write_bytes(start.encode() + content)
    for look in (flac.has_more_samples, riff.has_more_data, ogg.ends_whole):
        assert look(path) in (True, False)
    assert ogg.streams(path)[-1][1] == len(path.read_bytes())
    assert mpeg.look(path)[0] in (True, False)
    announced = mpeg.announced_seconds(path.read_bytes())
    assert announced is None or announced >= 0


CONTAINERS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("AIFF", "PCM_16"),
    ("W64", "PCM_24"),
    ("MP3", "MPEG_LAYER_III"),
]
WHOLE = {form: written(tone(3, 48000, seed=3), *form, 48000) for form in CONTAINERS}


class Counted:
    def __init__(self):
        self.samples = 0

    def add(self, audio):
        assert audio.dtype == np.float32
        self.samples += len(audio)

    def restart(self):
        self.samples = 0


def most_that_a_decoder_finds(path) -> float:
    found = [0.0]
    try:
        with open_sndfile(path) as file:
            found.append(sum(len(block) for block in file.blocks()) / file.rate)
    except DecodingError:
        pass
    try:
        with open_ffmpeg(path) as other:
            found.append(sum(len(block) / rate for block, rate in other.blocks()))
    except DecodingError:
        pass
    return max(found)


def decoded(path: Path, output: Counted, on_progress=lambda seconds: None):
    """What is known of a file at 16 kHz, or the reason why it gives no audio."""
    try:
        return decode(path, 16000, output, on_progress), ""
    except DecodingError as error:
        return None, str(error)


def check_named(path: Path, longest: float = 1e9) -> None:
    """What is kept and what is named is all that a decoder finds."""
    output, progress = Counted(), []
    facts, reason = decoded(path, output, progress.append)
    if facts is None:
        assert reason.startswith(("unreadable: ", "truncated or damaged: ", "empty: "))
        return
    kept = output.samples / 16000
    assert sum(progress) == pytest.approx(facts.seconds, abs=0.01)
    assert facts.seconds == pytest.approx(kept, abs=0.01)
    assert kept >= most_that_a_decoder_finds(path) - 0.1
    assert kept >= min(longest, 3.0) - 0.15 or is_serious(facts.note)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.sampled_from(CONTAINERS), st.floats(0.02, 1), st.sampled_from([1, 1, 2]))
def test_cuts_and_joins_lose_nothing_without_a_word(tmp_path, form, share, times):
    content = WHOLE[form] * times
    path = tmp_path / "a.audio"
    path.write_bytes(content[: max(1, int(share * len(content)))])
    longest = 3.0 if form[0] != "OGG" else 3.0 * share * times - 0.8  # Ogg announces no length
    check_named(path, longest if share < 1 else 3.0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.sampled_from(CONTAINERS), st.lists(st.tuples(st.integers(0, 299), st.integers(0, 255)), max_size=4))
def test_damaged_headers_lose_nothing_without_a_word(tmp_path, form, changes):
    content = bytearray(WHOLE[form])
    for place, value in changes:
        content[place] = value
    path = tmp_path / "a.audio"
    path.write_bytes(content)
    output = Counted()
    facts, reason = decoded(path, output)
    if facts is None:
        assert reason
        assert "\n" not in reason
        return
    assert output.samples / 16000 == pytest.approx(facts.seconds, abs=0.02)


@pytest.mark.parametrize(
    ("rate", "kind"),
    [(999, "unreadable"), (1_000, "unusual"), (1_999, "unusual"), (2_000, ""), (768_000, ""), (768_001, "unusual")],
)
def test_rates_that_no_recorder_has(tmp_path, rate, kind):
    (tmp_path / "a.wav").write_bytes(written(tone(0.5, rate, 1), "WAV", "PCM_16", rate))
    facts, reason = decoded(tmp_path / "a.wav", Counted())
    text = facts.note if facts else reason
    assert text.startswith(f"{kind}: its header names a rate of {rate:,} Hz" if kind else "")
    assert is_serious(text) == bool(kind), "--strict fails on it"
    assert bool(facts) == (kind != "unreadable")


# Mixing.


def test_a_wild_sample_is_repaired_and_music_is_not():
    audio = tone(1, channels=1)[:, 0].copy()
    before = audio.copy()
    assert repair(audio) == 0
    loud = 30 * audio  # in another scale, but no glitch
    assert repair(loud) == 0
    audio[[100, 20_000]] = 1e6, -50
    assert repair(audio) == 2
    np.testing.assert_allclose(audio, before, atol=0.1)
    audio[5:40] = 100.0
    assert repair(audio) == 0, "many of them are no glitch"
    for value in (np.nan, np.inf):
        broken = before.copy()
        broken[7] = value
        assert repair(broken) == 0
        assert not np.isfinite(broken[7])
    one = np.array([9.0], np.float32)
    assert repair(one) == 0


@pytest.mark.parametrize(("sides", "louder"), [((1, -0.99), 0), ((-0.9, 0.95), 1), ((1, 0.9), None), ((1, 0), None)])
def test_channels_that_cancel(sides, louder):
    one = tone(1, channels=1)
    mixer = Mixer(RATE)
    list(mixer.add(np.concatenate([side * one for side in sides], 1), RATE))
    assert (mixer.loudest if mixer.cancels else None) == louder


def test_the_louder_side_is_taken_alone(tmp_path):
    one = tone(2, channels=1)
    (tmp_path / "a.wav").write_bytes(written(np.concatenate([0.99 * one, -one], 1), "WAV", "PCM_16"))
    taken = []

    class Output(Counted):
        def add(self, audio):
            taken.append(audio.copy())

        def restart(self):
            taken.clear()

    facts = decode(tmp_path / "a.wav", RATE, Output())
    np.testing.assert_allclose(np.concatenate(taken), -one[:, 0], atol=1e-4)
    assert facts.note == "cancelling: its channels cancel each other, so only channel 2 is used"


def test_parts_of_other_rates_are_resampled_each(tmp_path):
    mixer = Mixer(22050)
    parts = [(tone(1, 44100), 44100), (tone(1, 22050), 22050), (tone(1, 48000), 48000)]
    audio = [block.copy() for part, rate in parts for block in mixer.add(part, rate)]
    audio += [block.copy() for block in mixer.end()]
    assert sum(map(len, audio)) == pytest.approx(3 * 22050, abs=4)


def test_samples_of_every_kind_that_ffmpeg_gives(tmp_path):
    audio = tone(1)
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"):
        content = io.BytesIO()
        soundfile.write(content, audio, RATE, subtype, format="WAV")
        (tmp_path / "a.wav").write_bytes(content.getvalue())
        with open_ffmpeg(tmp_path / "a.wav") as file:
            found = np.concatenate([block for block, _ in file.blocks()])
        np.testing.assert_allclose(found, audio, atol=0.01 if subtype == "PCM_U8" else 1e-4)
