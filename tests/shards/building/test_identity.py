"""Recordings that changed, were touched or are copies; recordings that stay together; recordings that are divided."""

import json
import os
import shutil
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import soundfile
import soxr
from small_builds import SMALL, add_recordings, build_here, contents

from shards import DataError, Manifest, Split
from shards.audio import recording
from shards.building.build import build
from shards.files import parse_json
from shards.verify import verify

RATE = 22050
NAMES = ("size", "modified_ns", "content", "audio", "group", "copy_of", "span", "members")


@pytest.fixture(autouse=True)
def here(monkeypatch):
    build_here(monkeypatch)
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 60)


def melody(seed: int, seconds: float = 8.0) -> np.ndarray:
    """Notes and noise, float32 [n]."""
    draw = np.random.default_rng(seed)
    count = int(seconds * RATE)
    notes = np.repeat(draw.uniform(150, 1500, size=(2, int(seconds * 5) + 1)), RATE // 5, axis=1)[:, :count]
    audio = np.sin(2 * np.pi * np.cumsum(notes, axis=1) / RATE).sum(axis=0)
    return (0.2 * audio + 0.01 * draw.standard_normal(audio.shape)).astype(np.float32)


@pytest.fixture
def audio(tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    for seed in range(10):
        soundfile.write(folder / f"{seed}.wav", melody(seed), RATE)
    return folder


def splits(out):
    return {source.path: source.split for source in Manifest.load(out).sources}


@pytest.fixture
def decoded(monkeypatch):
    """The files that are decoded."""
    names = []
    original = recording.Decoder.read

    def read(self, path, *arguments):
        names.append(os.path.basename(path))
        return original(self, path, *arguments)

    monkeypatch.setattr(recording.Decoder, "read", read)
    return names


def test_an_edit_in_the_middle_is_refused_by_name_and_a_touch_or_a_tag_is_not(audio, tmp_path, decoded, capsys):
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    before = contents(out)
    decoded.clear()
    os.utime(audio / "3.wav")
    build(audio, out, **SMALL)
    assert decoded == []  # its bytes are the same
    content = (audio / "4.wav").read_bytes()
    tagged = content[:4] + (len(content) + 12 - 8).to_bytes(4, "little") + content[8:] + b"LIST\x04\x00\x00\x00INFO"
    (audio / "4.wav").write_bytes(tagged)
    build(audio, out, **SMALL)
    assert decoded == ["4.wav"]  # its samples are the same
    assert capsys.readouterr().out.count("is complete: nothing to do") == 2
    edited = bytearray((audio / "5.wav").read_bytes())
    edited[len(edited) // 2] ^= 64
    (audio / "5.wav").write_bytes(edited)
    with pytest.raises(DataError, match=r"1 recordings have changed .*'5\.wav'"):
        build(audio, out, **SMALL)
    assert contents(out) == before


def test_reread_finds_what_kept_its_size_and_time(audio, tmp_path):
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    time = (audio / "5.wav").stat().st_mtime_ns
    edited = bytearray((audio / "5.wav").read_bytes())
    edited[len(edited) // 2] ^= 64
    (audio / "5.wav").write_bytes(edited)
    os.utime(audio / "5.wav", ns=(time, time))
    build(audio, out, **SMALL)
    with pytest.raises(DataError, match=r"1 recordings have changed .*'5\.wav'"):
        build(audio, out, **SMALL, reread=True)


def test_a_data_set_of_a_version_before_keeps_its_splits(audio, tmp_path):
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    before = splits(out)
    manifest = parse_json((out / "dataset.json").read_bytes())
    for source in manifest["sources"]:
        for name in NAMES:
            del source[name]
    kept = ("valid", "test", "chunks_per_shard", "max_silence")
    manifest["settings"] = {name: manifest["settings"][name] for name in kept}
    del manifest["prints"]
    (out / "dataset.json").write_text(json.dumps(manifest))
    for file in out.glob("prints-*"):
        file.unlink()
    for seed in range(20, 24):
        soundfile.write(audio / f"{seed}.wav", melody(seed), RATE)
    shutil.copy(audio / "1.wav", audio / "copy of 1.wav")
    os.utime(audio / "2.wav")
    build(audio, out, **SMALL)
    after = splits(out)
    assert before.items() <= after.items()
    assert after["copy of 1.wav"] == before["1.wav"]
    verify(out)
    (audio / "2.wav").write_bytes((audio / "3.wav").read_bytes())
    with pytest.raises(DataError, match=r"1 recordings have changed .*'2\.wav'"):
        build(audio, out, **SMALL)


def add_copies(audio, paths):
    """Of each recording one in another container, one with a sample less, and one at another level and rate."""
    for path in paths:
        sound, _ = soundfile.read(audio / path, dtype="float32")
        name = path.split(".")[0]
        soundfile.write(audio / f"{name}-b.flac", sound, RATE)
        soundfile.write(audio / f"{name}-c.wav", sound[1:], RATE)
        soundfile.write(audio / f"a{name}.mp3", 0.5 * soxr.resample(sound, RATE, 44100), 44100)


def test_copies_are_in_one_split_and_named(audio, tmp_path, decoded, capsys):
    names = [path.name for path in sorted(audio.iterdir())]
    add_copies(audio, names)
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    manifest = Manifest.load(out)
    split = splits(out)
    for name in names:
        own = name.split(".")[0]
        group = [f"a{own}.mp3", name, f"{own}-b.flac", f"{own}-c.wav"]
        assert len({split[path] for path in group}) == 1
        rows = [source for source in manifest.sources if source.path in group]
        assert sorted(source.copy_of for source in rows) == ["", *[min(group)] * 3]
    assert set(split.values()) == {"train", "valid"}
    told = capsys.readouterr()
    assert "30 recordings have the same sound as another" in told.out
    assert "0-b.flac is a copy of 0-" not in told.out
    assert "recordings change their split" in told.err
    assert max(Counter(decoded).values()) == 1  # although parts were built again
    verify(out)
    assert sum(len(Split.open(out, name)) for name in manifest.splits) == sum(s.chunks for s in manifest.sources)


def test_copies_without_room_for_what_is_decoded(audio, tmp_path, monkeypatch):
    add_copies(audio, ["0.wav", "1.wav", "2.wav", "3.wav"])
    build(audio, tmp_path / "roomy", **SMALL)
    monkeypatch.setattr("shards.building.running.ROOM", 1e18)
    build(audio, tmp_path / "full", **SMALL)
    for task in ("1/2", "2/2"):
        build(audio, tmp_path / "tasks", **SMALL, task=task)
    assert contents(tmp_path / "roomy") == contents(tmp_path / "full") == contents(tmp_path / "tasks")


def test_copies_that_come_later_go_where_the_first_are(audio, tmp_path, capsys):
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    before = splits(out)
    add_copies(audio, list(before))
    build(audio, out, **SMALL)
    after = splits(out)
    for path, name in before.items():
        own = path.split(".")[0]
        assert {after[f"a{own}.mp3"], after[f"{own}-b.flac"], after[f"{own}-c.wav"]} == {name}
    for file in out.glob("prints-*"):
        file.write_bytes(b"")
    soundfile.write(audio / "new.wav", melody(50), RATE)
    capsys.readouterr()
    verify(out)
    assert "is missing or damaged: recordings that are added later are not compared" in capsys.readouterr().err
    build(audio, out, **SMALL)
    assert "is missing or damaged: its recordings are not compared with others" in capsys.readouterr().err


def test_copies_may_be_only_named(audio, tmp_path, capsys):
    add_copies(audio, [path.name for path in audio.iterdir()])
    build(audio, tmp_path / "set", **SMALL, copies="ignore")
    told = capsys.readouterr()
    assert "30 recordings have the same sound as another" in told.out
    assert "copies are in another split than their originals: held-out measures mislead" in told.out
    assert "change their split" not in told.err


def test_music_of_few_notes_is_no_copy_but_copies_of_the_only_recording_are(tmp_path, capsys):
    audio = tmp_path / "audio"
    audio.mkdir()
    t = np.arange(RATE // 4) / RATE
    notes = [0.5 * np.exp(-6 * t) * np.sin(2 * np.pi * pitch * t) for pitch in (220, 277, 330, 440, 554)]
    for seed in range(4):
        chosen = np.random.default_rng(seed).integers(5, size=40)
        soundfile.write(audio / f"tune{seed}.wav", np.concatenate([notes[one] for one in chosen]), RATE)
    build(audio, tmp_path / "notes", **SMALL)
    assert "recordings, more than half of the audio, have sound in common" in capsys.readouterr().err
    assert not any(source.copy_of for source in Manifest.load(tmp_path / "notes").sources)
    assert set(splits(tmp_path / "notes").values()) == {"train", "valid"}
    only = tmp_path / "only"
    only.mkdir()
    soundfile.write(only / "0.wav", melody(0), RATE)
    add_copies(only, ["0.wav"])
    (only / "a0.mp3").unlink()  # its share of common landmarks may be as small as that of music of few notes
    build(only, tmp_path / "one", **SMALL)
    assert set(splits(tmp_path / "one").values()) == {"train"}


def test_silence_is_a_copy_of_nothing(tmp_path):
    audio = tmp_path / "audio"
    add_recordings(audio, range(3))
    for name in ("a", "b"):
        soundfile.write(audio / f"{name}.wav", np.zeros(RATE), RATE)
    build(audio, tmp_path / "set", **SMALL)
    assert not any(source.copy_of for source in Manifest.load(tmp_path / "set").sources)


def test_stems_with_silent_ends_are_not_taken_for_copies(tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()
    ends = np.zeros(RATE * 2)
    for seed in range(12):
        soundfile.write(audio / f"stem{seed}.wav", np.concatenate([ends, melody(seed, 3.0), ends]), RATE)
    shutil.copy(audio / "stem0.wav", audio / "the same.wav")
    build(audio, tmp_path / "set", **SMALL)
    manifest = Manifest.load(tmp_path / "set")
    assert len({source.fingerprint for source in manifest.sources}) == 1
    assert {source.path: source.copy_of for source in manifest.sources if source.copy_of} == {
        "the same.wav": "stem0.wav"
    }
    assert set(splits(tmp_path / "set").values()) == {"train", "valid"}


def test_groups_stay_together_also_when_they_grow(tmp_path):
    audio = tmp_path / "audio"
    for album in range(6):
        (audio / f"album{album}").mkdir(parents=True)
        add_recordings(audio / f"album{album}", range(10 * album, 10 * album + 3))
    build(audio, tmp_path / "set", **SMALL, group_by="folder")
    before = splits(tmp_path / "set")
    for album in range(6):
        add_recordings(audio / f"album{album}", range(10 * album + 3, 10 * album + 5))
    build(audio, tmp_path / "set", **SMALL, group_by="folder")
    after = splits(tmp_path / "set")
    assert before.items() <= after.items()
    assert len(after) == 30
    for album in range(6):
        assert len({split for path, split in after.items() if path.startswith(f"album{album}/")}) == 1
    assert set(after.values()) == {"train", "valid"}
    with pytest.raises(DataError, match="was built with --group_by folder"):
        build(audio, tmp_path / "set", **SMALL)


def test_given_splits_hold_as_they_are(audio, tmp_path, capsys):
    add_copies(audio, ["0.wav"])
    paths = sorted(path.name for path in audio.iterdir())
    given = {path: ("train", "valid", "test")[number % 3] for number, path in enumerate(paths)}
    table = tmp_path / "splits.csv"
    table.write_text("path,split\n" + "".join(f"{path},{name}\n" for path, name in given.items()))
    build(audio, tmp_path / "set", **SMALL, splits=str(table))
    assert splits(tmp_path / "set") == given
    assert "held-out measures mislead" in capsys.readouterr().out
    for path, name in given.items():
        (audio / name).mkdir(exist_ok=True)
        (audio / path).rename(audio / name / path)
    build(audio, tmp_path / "folders", **SMALL, split_by_folder=True)
    assert splits(tmp_path / "folders") == {f"{name}/{path}": name for path, name in given.items()}
    for flags, message in (
        ({"splits": str(table), "split_by_folder": True}, "--splits and --split_by_folder contradict each other"),
        ({"valid_within": True, "group_by": "folder"}, "--group_by has no meaning with --valid_within"),
    ):
        with pytest.raises(DataError, match=message):
            build(audio, tmp_path / "other", **SMALL, **flags)


def test_a_single_recording_is_divided_with_a_gap(tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()
    sound = melody(1, 20.0)
    soundfile.write(audio / "one.wav", sound, RATE, "FLOAT")
    chosen = SMALL | {"valid": 0.1, "test": 0.1}
    build(audio, tmp_path / "set", **chosen)
    manifest = Manifest.load(tmp_path / "set")
    rows = {source.split: source for source in manifest.sources}
    assert [source.path for source in manifest.sources] == ["one.wav"] * 3
    train, valid, test = (rows[name].span for name in ("train", "valid", "test"))
    assert (train[0], test[1]) == (0, len(sound))
    assert valid[0] - train[1] == test[0] - valid[1] == 2205
    gain = 10 ** (rows["valid"].gain_db / 20)
    for name, span in (("train", train), ("valid", valid), ("test", test)):
        split = Split.open(tmp_path / "set", name)
        sources, starts = split.keys()
        assert {manifest.sources[row].split for row in sources.tolist()} == {name}
        assert starts.min() == span[0]
        assert starts.max() + 2205 == span[1]
        heard = split.read(np.arange(len(split))).numpy()
        for start, chunk in zip(starts.tolist(), heard, strict=True):
            assert np.abs(chunk - 32768 * gain * sound[start : start + 2205]).max() < 1
    assert rows["train"].note == f"divided: 0.00 to {train[1] / RATE:.2f} s are for training"
    assert rows["train"].duration_s == pytest.approx(train[1] / RATE, abs=1e-5)
    verify(tmp_path / "set")
    build(audio, tmp_path / "set", **chosen)  # nothing to do
    for seed in range(30, 33):
        soundfile.write(audio / f"{seed}.wav", melody(seed), RATE)
    build(audio, tmp_path / "set", **chosen)
    assert [asdict(source) for source in Manifest.load(tmp_path / "set").sources[:3]] == [
        asdict(source) for source in manifest.sources
    ]


def test_all_recordings_may_be_divided_and_short_ones_are_for_training(audio, tmp_path):
    soundfile.write(audio / "short.wav", melody(40, 0.2), RATE)
    build(audio, tmp_path / "set", **SMALL, valid_within=True)
    manifest = Manifest.load(tmp_path / "set")
    for source in manifest.sources:
        if source.path == "short.wav":
            assert (source.split, source.span) in (("train", None), (None, None))
        else:
            assert source.span is not None
    counts = Counter(source.split for source in manifest.sources)
    assert counts == {"train": 11, "valid": 10, None: 1}


def test_recordings_that_turn_out_unreadable_do_not_leave_a_split_empty(audio, tmp_path):
    out = tmp_path / "first"
    build(audio, out, **SMALL)
    held = [path for path, split in splits(out).items() if split == "valid"]
    for path in held:  # what the header says stays
        content = (audio / path).read_bytes()
        (audio / path).write_bytes(content[: len(content) // 4])
    build(audio, tmp_path / "second", **SMALL)
    after = splits(tmp_path / "second")
    assert {after[path] for path in held} == {None}
    assert set(after.values()) == {None, "train", "valid"}


def test_a_dry_run_prints_the_plan_and_writes_nothing(audio, tmp_path, capsys):
    (audio / "notes.txt").write_text("no audio")
    (audio / "broken.flac").write_bytes(b"fLaC")
    build(audio, tmp_path / "set", **SMALL, dry_run=True)
    told = capsys.readouterr().out
    assert not (tmp_path / "set").exists()
    assert "10 recordings to add, 2 files to skip" in told
    assert "broken.flac: unreadable" in told
    assert "1 files are not audio" in told
    assert "warning: no preset fits chunks of 2,205 samples at 22,050 Hz" in told
    planned = {
        line.split()[1]: line.split()[7] for line in told.splitlines() if line.startswith(("│ train", "│ valid"))
    }
    build(audio, tmp_path / "set", **SMALL)
    manifest = Manifest.load(tmp_path / "set")
    assert planned == {name: f"{manifest.chunks(name):,}" for name in manifest.splits}
