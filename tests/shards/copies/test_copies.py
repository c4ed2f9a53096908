"""Acoustic fingerprints: copies are found through codecs, gain, resampling and cuts; other recordings are not."""

import zipfile
from contextlib import suppress

import numpy as np
import pytest
import soundfile
import soxr

from benchmarks.copies.command import as_integers, coded, print_of
from shards.copies.landmarks import landmarks
from shards.copies.matching import matches
from shards.copies.prints import load_prints, make_print, to_bytes
from shards.errors import DataError
from shards.practice.tunes import practice
from shards.splits.units import joined

RATE = 22050


def groups(recordings: list[np.ndarray]) -> dict[int, int]:
    """The first of the copies for each recording that has any."""
    prints = [print_of(row, as_integers(audio)) for row, audio in enumerate(recordings)]
    return joined(sorted(matches(prints, [len(audio) / RATE for audio in recordings])))


COPIES = {
    "a sample less": lambda audio: audio[1:],
    "a beginning of 3.3 s less": lambda audio: audio[int(3.3 * RATE) :],
    "an end of a third less": lambda audio: audio[: 2 * len(audio) // 3],
    "12 dB less": lambda audio: audio * 0.25,
    "mp3": lambda audio: coded(audio, "MP3", "MPEG_LAYER_III"),
    "ogg at 44.1 kHz": lambda audio: coded(audio, "OGG", "VORBIS", 44100),
    "16 kHz": lambda audio: soxr.resample(soxr.resample(audio, RATE, 16000), 16000, RATE),
    "8 bits": lambda audio: np.rint(audio * 127) / 127,
    "silence before": lambda audio: np.concatenate([np.zeros(12345), audio]),
}


@pytest.fixture(scope="module")
def tunes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tunes")
    practice(folder, minutes=2)
    read = [soundfile.read(path, dtype="float32", always_2d=True) for path in sorted(folder.iterdir())]
    return [soxr.resample(audio.mean(axis=1), rate, RATE) for audio, rate in read]


@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_tunes_are_found_and_other_tunes_are_not(tunes, kind):
    count = len(tunes)
    found = groups([*tunes, *(COPIES[kind](tune).astype(np.float32) for tune in tunes)])
    assert found == {place: place % count for place in range(2 * count)}


def hits(count: int, seed: int) -> list[np.ndarray]:
    """One-shots of a drum kit: kicks, snares, hats and bells of random pitch, decay and noise."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        t = np.arange(int(draw.uniform(0.15, 0.9) * RATE)) / RATE
        noise = draw.standard_normal(len(t))
        if number % 4 == 0:
            sweep = draw.uniform(0.5, 3) * (1 - np.exp(-t / 0.03))
            audio = np.sin(2 * np.pi * (draw.uniform(45, 70) * t + sweep)) * np.exp(-t / draw.uniform(0.08, 0.3))
        elif number % 4 == 1:
            body = np.sin(2 * np.pi * draw.uniform(160, 240) * t) * np.exp(-t / 0.1)
            audio = body + noise * np.exp(-t / draw.uniform(0.05, 0.15))
        elif number % 4 == 2:
            audio = np.diff(noise, prepend=0) * np.exp(-t / draw.uniform(0.02, 0.3))
        else:
            partials = sum(np.sin(2 * np.pi * draw.uniform(200, 3000) * t) for _ in range(3))
            audio = partials * np.exp(-t / draw.uniform(0.05, 0.3))
        found.append(audio)
    return found


def test_one_shots_of_a_kit_are_told_apart():
    assert len(groups(hits(500, seed=1))) < 5  # 1 %


@pytest.mark.parametrize("kind", ["a sample less", "12 dB less", "16 kHz", "mp3"])
def test_copies_of_noisy_one_shots_are_found(kind):
    kit = [audio.astype(np.float32) / 4 for number, audio in enumerate(hits(80, seed=2)) if number % 4 in (1, 2)]
    found = groups([*kit, *(COPIES[kind](audio).astype(np.float32) for audio in kit)])
    right = sum(found.get(place) == place == found.get(place + len(kit)) for place in range(len(kit)))
    assert right > 0.9 * len(kit)


def test_phrases_of_one_voice_are_told_apart():
    """Pulses through moving resonances: the pitch and the vowels of one voice, in another order each time."""
    draw = np.random.default_rng(3)
    vowels = [(700, 1200), (300, 2300), (400, 800), (500, 1800), (350, 1000)]
    phrases = []
    for _ in range(120):
        pieces = []
        for _ in range(draw.integers(4, 14)):
            length = int(draw.uniform(0.08, 0.25) * RATE)
            t = np.arange(length) / RATE
            phase = np.cumsum(draw.uniform(90, 140) * (1 + 0.1 * np.sin(2 * np.pi * 3 * t))) / RATE
            glottis = np.diff(np.floor(phase), prepend=0) + 0.02 * draw.standard_normal(length)
            spectrum, bins = np.fft.rfft(glottis), np.fft.rfftfreq(length, 1 / RATE)
            shape = sum(1 / (1 + ((bins - formant) / 80) ** 2) for formant in vowels[draw.integers(5)])
            pieces.append(np.fft.irfft(spectrum * shape, length) * np.hanning(length))
        phrases.append(np.concatenate(pieces))
    assert len(groups(phrases)) <= 1


def test_an_excerpt_of_a_long_recording_is_found():
    draw = np.random.default_rng(4)
    t = np.arange(200 * RATE) / RATE
    notes = np.repeat(draw.uniform(150, 1500, size=(3, 800)), RATE // 4 + 1, axis=1)[:, : len(t)]
    plucked = np.exp(-12 * (t % 0.25))
    long = np.sin(2 * np.pi * np.cumsum(notes, axis=1) / RATE).sum(axis=0) * plucked
    long += 0.01 * draw.standard_normal(len(t))
    begin = 1970 * 1024  # at the border of a frame; elsewhere some music has too few landmarks in common
    assert groups([long, long[begin : begin + 60 * RATE]]) == {0: 0, 1: 0}


@pytest.mark.parametrize("samples", [0, 1, 511, 512, 2000])
@pytest.mark.parametrize("rate", [800, 8000, 22050, 48000])
def test_any_length_and_rate(samples, rate):
    noise = np.random.default_rng(samples).standard_normal(samples + 1)[:samples]
    one = make_print(3, lambda begin, count: noise[begin : begin + count], samples, rate)
    assert len(one.hashes) == len(one.frames)
    assert list(matches([one, one], [1.0, 1.0])) in ([], [(0, 1)])


def test_silence_and_tones_have_few_landmarks():
    for audio in (np.zeros(RATE * 10), np.ones(RATE * 10)):
        hashes, _ = landmarks(lambda begin, count, audio=audio: audio[begin : begin + count], len(audio), RATE)
        assert len(hashes) == 0, audio[0]


def test_a_file_of_prints_gives_what_was_written_and_damage_is_named(tunes, tmp_path, monkeypatch):
    prints = [print_of(7, as_integers(tunes[0]))]
    prints += [print_of(row, as_integers(audio)) for row, audio in enumerate(hits(5, seed=5), start=20)]
    content = to_bytes(prints)
    assert content == to_bytes(prints)
    file = tmp_path / "prints-00000.npz"
    file.write_bytes(content)
    for one, two in zip(prints, load_prints(file), strict=True):
        assert one.row == two.row
        assert (one.hashes == two.hashes).all()
        assert (one.frames == two.frames).all()
        assert (one.texture is None) == (two.texture is None)
        assert one.texture is None or (one.texture == two.texture).all()
    file.write_bytes(to_bytes([]))
    assert load_prints(file) == []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("rows.npy", bytes(1 << 21))
    with monkeypatch.context() as small:
        small.setattr("shards.copies.prints.LIMIT", 1 << 20)
        with pytest.raises(DataError, match="is missing or damaged"):
            load_prints(file)
    draw = np.random.default_rng(6)
    for _ in range(60):
        damaged = bytearray(content)
        if draw.random() < 0.5:
            del damaged[draw.integers(len(damaged)) :]
        else:
            damaged[draw.integers(len(damaged))] ^= 1 << draw.integers(8)
        file.write_bytes(damaged)
        with suppress(DataError):  # or a flip where it does not matter
            load_prints(file)
