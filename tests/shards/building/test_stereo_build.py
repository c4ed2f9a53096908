"""Data sets of two channels: every sample is there, mono stays what it was, and both find the same copies."""

import hashlib
import io
import json
import os
import shutil

import numpy as np
import pytest
import soundfile
import webdataset
from small_builds import SMALL, add_recordings, build_here, contents

from shards import DataError, Manifest, Split
from shards.building.build import build
from shards.chunk import parse_name
from shards.inspect import inspect
from shards.practice import tunes
from shards.practice.tunes import practice
from shards.verify import verify

RATE = 22050
STEREO = SMALL | {"channels": 2, "level": "none"}


def sound(seed: int, channels: int, samples: int = 20_000) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).uniform(-1, 1, (samples, channels))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """What a folder may hold, by name: float64 [n, channels]."""
    found = {"mono": sound(1, 1), "six": sound(3, 6, 15_000), "short": sound(4, 2, 700), "tiny": sound(8, 2, 900)}
    found["cancelling"] = sound(12, 1) * [1, -1]
    found["one-sided"] = np.concatenate([0 * sound(5, 1), sound(5, 1)], axis=1)
    found["stereo"] = sound(2, 2)
    found["quiet-end"] = np.concatenate([sound(6, 2, 9000), np.zeros((9000, 2))])
    found["half-silent-end"] = np.concatenate([sound(7, 2, 9000), sound(9, 1, 9000) * [0, 1]])
    folder = tmp_path_factory.mktemp("sides")
    for name, audio in found.items():
        soundfile.write(folder / f"{name}.wav", audio, RATE, "FLOAT")
    return folder, found


@pytest.fixture(scope="module")
def stereo(recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stereo") / "set"
    build(recordings[0], folder, **STEREO)
    return folder


def stored(audio: np.ndarray) -> np.ndarray:
    """Full scale 1 as int16 at the level ``none``; files hold float32."""
    return np.rint(audio.astype(np.float32) * np.float32(32768))


def sides(name: str, audio: np.ndarray) -> np.ndarray:
    """What a stereo data set holds of a recording."""
    if name == "one-sided":
        return audio[:, [1, 1]]
    return audio[:, :2] if audio.shape[1] > 1 else audio[:, [0, 0]]


def rebuilt(folder) -> dict[str, np.ndarray]:
    """The recordings from the chunks of a data set, int16 [n, channels] by path."""
    manifest = Manifest.load(folder)
    found = {}
    for name in manifest.splits:
        split = Split.open(folder, name)
        chunks = split.read(np.arange(len(split))).numpy().reshape(len(split), -1, split.channels)
        rows, starts = split.keys()
        for row, start, chunk in zip(rows.tolist(), starts.tolist(), chunks, strict=True):
            source = manifest.sources[row]
            where, first = (source.path, start) if source.members is None else ("", 0)
            length = round(source.duration_s * RATE)
            out = found.setdefault(where, np.zeros((max(length, split.samples), split.channels), np.int16))
            if where:
                out[first : first + split.samples] = chunk
    return {path: audio for path, audio in found.items() if path}


def test_every_sample_of_both_sides_is_there(recordings, stereo):
    found = rebuilt(stereo)
    for name, audio in recordings[1].items():
        expected = stored(sides(name, audio))
        assert np.array_equal(found[f"{name}.wav"][: len(expected)], expected), name
        assert not found[f"{name}.wav"][len(expected) :].any()


def test_the_report_says_what_became_of_the_channels(stereo, capsys):
    inspect(stereo)
    shown = capsys.readouterr().out
    assert "stereo chunks of 0.1 s" in shown
    assert "one-sided.wav: one-sided: only channel 2 has sound, so it is on both sides" in shown
    assert "six.wav: channels: it has 6, so the first two are left and right" in shown
    assert "cancelling" not in shown
    inspect(stereo, json=True)
    assert json.loads(capsys.readouterr().out)["channels"] == 2
    assert {source.path: source.channels for source in Manifest.load(stereo).sources}["six.wav"] == 6


def test_a_chunk_is_silent_where_both_sides_are(recordings, stereo):
    silent = {source.path: source.silent_chunks for source in Manifest.load(stereo).sources}
    assert silent["quiet-end.wav"] >= 7
    assert sum(silent.values()) == silent["quiet-end.wav"]


def test_other_programs_read_the_shards(stereo):
    verify(stereo)
    split = Split.open(stereo, "train")
    shards = split.manifest.splits["train"]
    assert all(shard.bytes % 4096 == 1024 for shard in shards)
    found = {}
    for sample in webdataset.WebDataset([str(stereo / shard.file) for shard in shards], shardshuffle=False):
        audio, rate = soundfile.read(io.BytesIO(sample["wav"]), dtype="int16")
        assert (rate, audio.shape) == (RATE, (2205, 2))
        found[parse_name(sample["__key__"] + ".wav")] = audio.tobytes()
    ours = split.read(np.arange(len(split))).numpy()
    sources, starts = split.keys()
    keys = zip(sources.tolist(), starts.tolist(), strict=True)
    assert found == {key: row.tobytes() for key, row in zip(keys, ours, strict=True)}


# Of the version before data sets could be stereo: sha256 of the shards, and of dataset.json without the acoustic
# fingerprints, whose numbers come from an FFT.
BEFORE = {
    "plain": {
        "dataset.json": "f7ffa3450f168f13",
        "train-00000-000.tar": "793d48d692818481",
        "valid-00000-000.tar": "eb4603cd4ccf838e",
    },
    "joined": {
        "dataset.json": "07e5954a43969af6",
        "train-00000-000.tar": "4f2775e5346b0a47",
        "valid-00000-000.tar": "b1295625c346b486",
    },
}


@pytest.mark.parametrize("kind", BEFORE)
def test_mono_stays_what_it_was(tmp_path, monkeypatch, kind):
    build_here(monkeypatch)
    add_recordings(tmp_path / "in", range(6))
    rng = np.random.default_rng(7)
    for name, channels in (("stereo", 2), ("six", 6)):
        soundfile.write(tmp_path / "in" / f"{name}.wav", 0.2 * rng.standard_normal((20000, channels)), RATE)
    side = 0.3 * rng.standard_normal(20000)
    soundfile.write(tmp_path / "in" / "cancelling.wav", np.stack([side, -side], 1), RATE)
    for path in (tmp_path / "in").iterdir():
        os.utime(path, (1, 1))
    more = {"join_short": True, "samples": RATE, "hop": RATE, "level": "rms"} if kind == "joined" else {}
    build(tmp_path / "in", tmp_path / "out", **SMALL | more)
    found = contents(tmp_path / "out")
    about = json.loads(found["dataset.json"])
    del about["prints"]
    found["dataset.json"] = json.dumps(about).encode()
    hashes = {name: hashlib.sha256(one).hexdigest()[:16] for name, one in found.items() if not name.endswith(".npz")}
    assert hashes == BEFORE[kind]


def test_a_data_set_stays_with_its_channels(recordings, stereo, tmp_path, capsys):
    build(recordings[0], stereo, **STEREO)
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(DataError, match="was built with --channels 2"):
        build(recordings[0], stereo, **STEREO | {"channels": 1})
    with pytest.raises(DataError, match="--channels 3: give 1 for mono or 2 for stereo"):
        build(recordings[0], tmp_path / "x", **STEREO | {"channels": 3})
    with pytest.raises(DataError, match="--keep_one_sided has no meaning for mono"):
        build(recordings[0], tmp_path / "x", keep_one_sided=True)
    with pytest.raises(DataError, match=r"less than 2\*\*29 in stereo"):
        build(recordings[0], tmp_path / "x", channels=2, samples=2**29)
    assert not (tmp_path / "x").exists()


def test_other_audio_in_one_side_is_noticed(recordings, tmp_path, monkeypatch):
    """The sides exchanged have the same mean: the samples of both decide, and new tags still change nothing."""
    build_here(monkeypatch)
    shutil.copytree(recordings[0], tmp_path / "in")
    build(tmp_path / "in", tmp_path / "out", **STEREO)
    before = contents(tmp_path / "out")
    audio = recordings[1]["stereo"]
    with soundfile.SoundFile(tmp_path / "in" / "stereo.wav", "w", RATE, 2, "FLOAT") as file:
        file.title = "another title"
        file.write(audio)
    build(tmp_path / "in", tmp_path / "out", **STEREO)
    assert contents(tmp_path / "out") == before
    soundfile.write(tmp_path / "in" / "stereo.wav", audio[:, ::-1], RATE, "FLOAT")
    with pytest.raises(DataError, match=r"1 recordings have changed .*stereo\.wav"):
        build(tmp_path / "in", tmp_path / "out", **STEREO)


@pytest.mark.parametrize("settings", [{"workers": 2}, {"part": 20}], ids=str)
def test_workers_and_parts_change_no_chunk(recordings, stereo, tmp_path, monkeypatch, settings):
    if "part" in settings:
        build_here(monkeypatch)
        monkeypatch.setattr("shards.building.plan.PART_CHUNKS", settings.pop("part"))
    build(recordings[0], tmp_path / "out", **STEREO | settings)
    verify(tmp_path / "out")
    expected, found = rebuilt(stereo), rebuilt(tmp_path / "out")
    assert expected.keys() == found.keys()
    assert all(np.array_equal(found[path], audio) for path, audio in expected.items())
    if "workers" in settings:
        assert contents(tmp_path / "out") == contents(stereo)


def test_what_was_decoded_is_taken_over(recordings, stereo, tmp_path, monkeypatch):
    """A build that stopped while it wrote its shards continues with the recordings that it has decoded."""
    build_here(monkeypatch)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shards.building.part.Shuffler.write", stop)
        with pytest.raises(KeyboardInterrupt):
            build(recordings[0], tmp_path / "out", **STEREO)
    with monkeypatch.context() as patch:
        patch.setattr("shards.building.part._Intake.take", stop)
        build(recordings[0], tmp_path / "out", **STEREO)
    assert contents(tmp_path / "out") == contents(stereo)


def test_short_recordings_share_chunks(recordings, tmp_path, monkeypatch):
    build_here(monkeypatch)
    build(recordings[0], tmp_path / "out", **STEREO | {"join_short": True, "valid": 0})
    split = Split.open(tmp_path / "out", "train")
    sources = split.manifest.sources
    (row,) = [row for row, source in enumerate(sources) if source.members]
    (chunk,) = np.flatnonzero(split.keys()[0] == row)
    audio = split.read(np.array([chunk])).numpy().reshape(-1, 2)
    for one, begin, count in sources[row].members:
        original = recordings[1][sources[one].path.removesuffix(".wav")]
        assert np.array_equal(audio[begin : begin + count], stored(original))


def test_a_divided_recording_keeps_both_sides(tmp_path, monkeypatch):
    build_here(monkeypatch)
    (tmp_path / "in").mkdir()
    audio = sound(11, 2, 60_000)
    soundfile.write(tmp_path / "in" / "a.wav", audio, RATE, "FLOAT")
    build(tmp_path / "in", tmp_path / "out", **STEREO)
    for name in ("train", "valid"):
        split = Split.open(tmp_path / "out", name)
        chunks = split.read(np.arange(len(split))).numpy().reshape(len(split), -1, 2)
        for start, chunk in zip(split.keys()[1].tolist(), chunks, strict=True):
            assert np.array_equal(chunk, stored(audio[start : start + 2205]))


def test_one_sided_recordings_can_stay(recordings, tmp_path, monkeypatch):
    build_here(monkeypatch)
    build(recordings[0], tmp_path / "out", **STEREO | {"keep_one_sided": True})
    found = rebuilt(tmp_path / "out")["one-sided.wav"]
    assert np.array_equal(found, stored(recordings[1]["one-sided"]))
    with pytest.raises(DataError, match="was built with --keep_one_sided True"):
        build(recordings[0], tmp_path / "out", **STEREO)


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Tunes and other forms of them: the mean of the channels, louder, exchanged, with one side turned over."""
    folder = tmp_path_factory.mktemp("copies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tunes, "_FILES", [(44100, 2, "wav", "PCM_16")] * 4)
        practice(folder / "tunes", minutes=0.5, channels=2)
    (folder / "in").mkdir()
    forms = {
        "as-it-is": lambda audio: audio,
        "mono": lambda audio: audio.mean(axis=1),
        "exchanged": lambda audio: 0.7 * audio[:, ::-1],
    }
    for number, path in enumerate(sorted((folder / "tunes").iterdir())[:4]):
        audio, rate = soundfile.read(path, always_2d=True)
        for name, form in forms.items():
            soundfile.write(folder / "in" / f"{number}-{name}.wav", form(audio), rate, "FLOAT")
        if number < 2:
            side = audio[:, 0]
            soundfile.write(folder / "in" / f"cancelling-{number}.wav", np.stack([side, -side], 1), rate, "FLOAT")
    return folder / "in"


def test_stereo_and_mono_builds_find_the_same_copies(copies, tmp_path, monkeypatch):
    build_here(monkeypatch)
    found = []
    for channels in (1, 2):
        build(copies, tmp_path / str(channels), **SMALL | {"channels": channels, "level": "peak"})
        sources = Manifest.load(tmp_path / str(channels)).sources
        found.append({source.path: source.copy_of for source in sources if source.copy_of})
    assert found[0] == found[1]
    assert {f"{number}-{name}.wav" for number in range(4) for name in ("exchanged", "mono")} <= found[1].keys()
    assert found[1].get("cancelling-1.wav") != "cancelling-0.wav"


def test_practice_recordings_in_stereo(tmp_path, monkeypatch):
    monkeypatch.setattr(tunes, "_FILES", [tunes._FILES[place] for place in (0, 2, 4)])
    for name in "ab":
        practice(tmp_path / name, minutes=0.4, channels=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        audio, _ = soundfile.read(path, always_2d=True)
        assert audio.shape[1] == 2
        side, mid = (audio[:, 0] - audio[:, 1]) / 2, audio.mean(axis=1)
        assert 0.05 < np.sqrt((side**2).mean() / (mid**2).mean()) < 1
    with pytest.raises(DataError, match="--channels 3: give 1"):
        practice(tmp_path / "c", channels=3)


def test_a_dry_run_plans_for_two_channels(recordings, tmp_path, monkeypatch, capsys):
    build_here(monkeypatch)
    build(recordings[0], tmp_path / "out", **STEREO | {"hop": 1}, dry_run=True)
    two = capsys.readouterr().out
    build(recordings[0], tmp_path / "out", **STEREO | {"hop": 1, "channels": 1}, dry_run=True)
    one = capsys.readouterr().out
    assert "stereo chunks of 0.1 s" in two
    assert "stereo" not in one

    def megabytes(text):
        return next(int(line.split("│")[5].replace(",", "")) for line in text.splitlines() if "train" in line)

    # Records of whole pages: 8,192 and 12,288 bytes.
    assert megabytes(two) == pytest.approx(1.5 * megabytes(one), rel=0.01)
