import io
import os
import re
import shutil

import numpy as np
import pytest
import soundfile
import webdataset
from small_builds import SMALL, add_recordings, build_here, contents

from shards import DataError, Manifest, Split
from shards.building.build import build
from shards.building.probe import probe
from shards.chunk import parse_name
from shards.files.lease import Lease
from tests.shards.conftest import music


def test_every_recording_is_there_sample_by_sample(audio_dir, data_dir):
    manifest = Manifest.load(data_dir)
    assert len(manifest.sources) == 8
    assert all(source.split and not source.note for source in manifest.sources)
    assert set(manifest.splits) == {"train", "valid"}
    rebuilt = [np.zeros(round(source.duration_s * 22050), np.int16) for source in manifest.sources]
    for name in manifest.splits:
        split = Split.open(data_dir, name)
        sources, starts = split.keys()
        assert {manifest.sources[row].split for row in sources} == {name}
        for row, start, chunk in zip(sources, starts, split.read(np.arange(len(split))).numpy(), strict=True):
            rebuilt[row][start : start + 2205] = chunk
        assert len(split) == manifest.levels[name].chunks == sum(s.chunks for s in manifest.sources if s.split == name)
    for source, audio in zip(manifest.sources, rebuilt, strict=True):
        original = soundfile.read(audio_dir / source.path, always_2d=True)[0].mean(axis=1)
        assert len(audio) / 22050 == pytest.approx(len(original) / source.rate, abs=1e-3)
        assert np.abs(audio.astype(int)).max() == pytest.approx(0.95 * 32768, abs=1)
        if source.rate == 22050:
            expected = np.rint(original * 10 ** (source.gain_db / 20) * 32768)
            assert np.abs(audio - expected).max() <= 1


def test_any_webdataset_pipeline_reads_the_shards(data_dir):
    split = Split.open(data_dir, "train")
    urls = [str(data_dir / shard.file) for shard in split.manifest.splits["train"]]
    found = {}
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        audio, rate = soundfile.read(io.BytesIO(sample["wav"]), dtype="int16")
        assert rate == 22050
        found[parse_name(sample["__key__"] + ".wav")] = audio.tobytes()
    ours = split.read(np.arange(len(split))).numpy()
    sources, starts = split.keys()
    keys = zip(sources.tolist(), starts.tolist(), strict=True)
    assert found == {key: row.tobytes() for key, row in zip(keys, ours, strict=True)}
    assert len(found) == len(split)


def test_shards_are_shuffled(data_dir):
    sources, _ = Split.open(data_dir, "train").keys()
    together = np.mean(sources[1:] == sources[:-1])
    assert together < 2 * np.sum((np.bincount(sources) / len(sources)) ** 2)


def test_the_number_of_workers_and_the_folder_change_no_byte(audio_dir, data_dir, tmp_path, monkeypatch):
    shutil.copytree(audio_dir, tmp_path / "copy")
    build(tmp_path / "copy", tmp_path / "two", **SMALL | {"workers": 2})
    assert contents(tmp_path / "two") == contents(data_dir)
    # With several parts too.
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 120)
    build(audio_dir, tmp_path / "a", **SMALL)
    build(audio_dir, tmp_path / "b", **SMALL | {"workers": 2})
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len({path.name.split("-")[1] for path in (tmp_path / "a").glob("*.tar")}) > 2


def test_running_a_complete_build_again(audio_dir, data_dir, tmp_path, capsys):
    out = tmp_path / "set"
    shutil.copytree(data_dir, out)
    before = contents(out)
    build(audio_dir, out, **SMALL)
    assert "is complete" in capsys.readouterr().out
    with pytest.raises(DataError, match="built with --hop 1000"):
        build(audio_dir, out, **SMALL | {"hop": 999})
    changed = tmp_path / "audio"
    shutil.copytree(audio_dir, changed)
    soundfile.write(changed / "one.wav", music(1, 22050, 1, 77), 22050)
    with pytest.raises(DataError, match=r"1 recordings have changed in .* \('one.wav'\)"):
        build(changed, out, **SMALL)
    assert contents(out) == before
    next(out.glob("train*.tar")).unlink()
    with pytest.raises(DataError, match=r"train.*cannot be read"):
        build(audio_dir, out, **SMALL)


def test_bad_recordings_are_listed_with_their_reasons(tmp_path, capsys):
    audio = tmp_path / "audio"
    audio.mkdir()
    for seed in range(3):
        soundfile.write(audio / f"good{seed}.wav", music(2, 22050, 1, seed), 22050)
    good = (audio / "good0.wav").read_bytes()
    soundfile.write(audio / "x.flac", music(3, 22050, 1, 9), 22050)
    flac = (audio / "x.flac").read_bytes()
    (audio / "x.flac").write_bytes(flac[: len(flac) // 2])
    (audio / "cut.wav").write_bytes(good[: len(good) // 2])
    (audio / "corrupt.wav").write_bytes(good[:20] + b"\xff" * 400)
    (audio / "no bytes.wav").write_bytes(b"")
    soundfile.write(audio / "no samples.wav", np.zeros(0), 22050)
    soundfile.write(audio / "silent.wav", np.zeros(30_000), 22050)
    soundfile.write(audio / "short.wav", music(0.05, 22050, 1, 5), 22050)
    nan = music(1, 22050, 1, 6)
    nan[10] = np.nan
    soundfile.write(audio / "nan.wav", nan, 22050, "FLOAT")
    for name in ("notes.txt", "README", "cover.jpg", "playlist.lst"):
        (audio / name).write_text("not audio")
    (audio / ".hidden.wav").write_bytes(good)
    (audio / "bad\nname[red].wav").write_bytes(b"x")
    (audio / "dangling.wav").symlink_to(audio / "nowhere")

    with pytest.raises(DataError, match="6 audio files were skipped, 2 are damaged or suspicious"):
        build(audio, tmp_path / "set", valid=0.3, workers=1, strict=True)
    sources = {source.path: source for source in Manifest.load(tmp_path / "set").sources}
    skipped = {path: source.note.split(":")[0] for path, source in sources.items() if source.split is None}
    assert skipped == {
        "corrupt.wav": "unreadable",
        "no bytes.wav": "empty",
        "no samples.wav": "empty",
        "nan.wav": "not finite",
        "bad\nname[red].wav": "unreadable",
        "dangling.wav": "unreadable",
        **dict.fromkeys(("notes.txt", "README", "cover.jpg", "playlist.lst"), "not audio"),
    }
    kept = {path for path, source in sources.items() if source.split is not None}
    assert kept == {"good0.wav", "good1.wav", "good2.wav", "silent.wav", "short.wav", "cut.wav", "x.flac"}
    assert sources["cut.wav"].note == "truncated or damaged: 1.00 of 2.00 s"
    assert sources["x.flac"].note.startswith("truncated or damaged: 1.")
    assert sources["silent.wav"].silent
    assert sources["short.wav"].chunks == 1
    told = capsys.readouterr().out
    assert "kept 7 recordings (1 silent), skipped 10 (4 not audio, " in told
    assert re.search(r"[34] unreadable, ", told)
    assert "  dangling.wav: unreadable: a link to a file that is not there\n" in told
    for path in ("cut.wav", "nan.wav", r"bad\nname[red].wav"):
        assert f"  {path}: " in told


def test_nothing_to_keep(tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()
    with pytest.raises(DataError, match="holds no file"):
        build(audio, tmp_path / "set", workers=1)
    (audio / "x.txt").write_text("x")
    with pytest.raises(DataError, match=r"nothing .* can be read"):
        build(audio, tmp_path / "set", workers=1)
    bad = np.full(1000, np.nan)
    soundfile.write(audio / "x.wav", bad, 22050, "FLOAT")
    with pytest.raises(DataError, match=r"no recording .*not finite"):
        build(audio, tmp_path / "set", workers=1)
    soundfile.write(audio / "x.wav", music(1, 22050), 22050, "FLOAT")
    build(audio, tmp_path / "set", workers=1)  # the failures left nothing in the way
    assert Manifest.load(tmp_path / "set").chunks("train") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hop": -1}, "--hop"),
        ({"hop": 30_000}, "--hop"),
        ({"samples": -1, "hop": 1}, "--samples"),
        ({"rate": -1}, "--rate"),
        ({"valid": 1.0}, "--valid"),
        ({"valid": float("nan")}, "--valid"),
        ({"chunks_per_shard": 0}, "--chunks_per_shard"),
        ({"workers": -1}, "--workers"),
        ({"max_silence": 1.1}, "--max_silence"),
        ({"max_silence": float("nan")}, "--max_silence"),
        ({"task": "0/4"}, "--task 0/4"),
        ({"task": "5/4"}, "--task 5/4"),
        ({"task": "1"}, "--task 1 "),
        ({"task": "a/b"}, "--task a/b"),
    ],
)
def test_impossible_settings(audio_dir, tmp_path, arguments, message):
    with pytest.raises(DataError, match=message):
        build(audio_dir, tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()


def test_folders_that_would_harm(audio_dir, tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        build(tmp_path / "missing", tmp_path / "set")
    for out in (audio_dir, audio_dir / "set", audio_dir.parent):
        with pytest.raises(DataError, match="in one another"):
            build(audio_dir, out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="other files"):
        build(audio_dir, tmp_path / "full")
    with pytest.raises(DataError, match="is a file"):
        build(audio_dir, tmp_path / "full" / "thesis.tex")


def test_two_builds_of_one_folder_are_refused(audio_dir, tmp_path):
    with Lease.take(tmp_path / ".build" / "task-1-of-1.lease"), pytest.raises(DataError, match="another build is"):
        build(audio_dir, tmp_path, **SMALL)
    with Lease.take(tmp_path / ".build" / "task-3-of-4.lease"), pytest.raises(DataError, match="task 3/4, is writing"):
        build(audio_dir, tmp_path, **SMALL)
    assert not list(tmp_path.glob("*.json"))


def test_an_unfinished_build_keeps_its_settings(audio_dir, tmp_path, monkeypatch):
    build_here(monkeypatch)
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 120)
    out = tmp_path / "set"
    build(audio_dir, out, **SMALL, task="1/2")
    with pytest.raises(DataError, match=r"unfinished build with other settings \(--hop 1000\)"):
        build(audio_dir, out, **SMALL | {"hop": 500})
    build(audio_dir, out, **SMALL)
    build(audio_dir, tmp_path / "whole", **SMALL)
    assert contents(out) == contents(tmp_path / "whole")


def test_recordings_that_change_under_the_build(tmp_path, monkeypatch):
    build_here(monkeypatch)
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 20)
    audio, out = tmp_path / "audio", tmp_path / "set"
    add_recordings(audio, range(4))
    build(audio, out, **SMALL, task="1/4")
    for file in audio.iterdir():
        file.touch()
    with pytest.raises(DataError, match=r"\.wav has changed since the build was planned"):
        build(audio, out, **SMALL)
    for file in audio.iterdir():
        file.rename(file.with_suffix(".gone"))
    with pytest.raises(DataError, match=r"\.wav cannot be read any more \(No such file"):
        build(audio, out, **SMALL)
    assert [path.name for path in out.iterdir()] == [".build"]
    shutil.rmtree(out / ".build")
    build(audio, out, **SMALL)
    assert {source.path for source in Manifest.load(out).sources} == {f"0{i}.gone" for i in range(4)}


def test_silence_beyond_its_share_is_left_out(tmp_path, monkeypatch, capsys):
    build_here(monkeypatch)
    audio = tmp_path / "audio"
    audio.mkdir()
    for seed in range(3):
        pause = np.zeros(22050)
        parts = [music(1, 22050, 1, seed), pause, music(1, 22050, 1, seed + 5)]
        soundfile.write(audio / f"{seed}.wav", np.concatenate(parts), 22050)
    soundfile.write(audio / "silent.wav", np.zeros(22050), 22050)
    plain = {"samples": 2205, "hop": 2205, "valid": 0.4, "workers": 1}
    build(audio, tmp_path / "all", **plain)
    levels = Manifest.load(tmp_path / "all").levels
    assert sum(level.silent_chunks for level in levels.values()) == 40
    assert sum(level.chunks for level in levels.values()) == 100
    for share, silent in ((0.2, 15), (0.0, 0)):
        build(audio, tmp_path / f"{share}", **plain, max_silence=share)
        manifest = Manifest.load(tmp_path / f"{share}")
        assert sum(level.silent_chunks for level in manifest.levels.values()) == silent
        assert sum(level.left_out for level in manifest.levels.values()) == 30 - silent
        *rest, nothing = manifest.sources
        assert nothing.note == "silent: left out by --max_silence"
        assert [(source.chunks, source.left_out) for source in rest] == [(20 + silent // 3, 10 - silent // 3)] * 3
        for name in manifest.splits:
            split = Split.open(tmp_path / f"{share}", name)
            heard = split.read(np.arange(len(split))).numpy()
            assert (np.abs(heard).max(axis=1) == 0).sum() == manifest.levels[name].silent_chunks
    assert "left out" in capsys.readouterr().out


def test_a_recording_longer_than_memory_gives_the_same_bytes(audio_dir, data_dir, tmp_path, monkeypatch):
    build_here(monkeypatch)
    monkeypatch.setattr("shards.audio.recording.IN_MEMORY", 10_000)
    build(audio_dir, tmp_path / "set", **SMALL)
    assert contents(tmp_path / "set") == contents(data_dir)


def test_recordings_that_may_not_be_read(tmp_path):
    """Some of the machine's own files cannot even be read by its administrator."""
    audio = tmp_path / "audio"
    add_recordings(audio, range(2))
    (audio / "secret").symlink_to("/proc/self/mem")
    found = probe(audio, "secret")
    assert found.problem == "unreadable: Input/output error"
    with pytest.raises(DataError, match="1 audio files were skipped"):
        build(audio, tmp_path / "set", **SMALL, strict=True)
    source = Manifest.load(tmp_path / "set").sources[-1]
    assert (source.split, source.note) == (None, "unreadable: Input/output error")


def test_permission_denied(tmp_path):
    add_recordings(tmp_path, range(1))
    (tmp_path / "00.wav").rename(tmp_path / "secret")
    (tmp_path / "secret").chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # permissions are nothing to an administrator
    try:
        assert probe(tmp_path, "secret").problem == "unreadable: Permission denied"
    finally:
        os.seteuid(user)


def test_names_of_all_kinds(tmp_path, monkeypatch, capsys):
    build_here(monkeypatch)
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 30)
    audio, out = tmp_path / "audio", tmp_path / "set"
    add_recordings(audio, range(6), seconds=0.3)
    names = ["\udcff\udcfe.wav", "a\nb\tc.wav", "-rf.wav", '"quoted\\".wav', "x" * 200 + ".wav", "[bold]%s{}.tar"]
    for file, name in zip(sorted(audio.iterdir()), names, strict=True):
        file.rename(audio / name)
    build(audio, out, **SMALL, task="1/2")
    build(audio, out, **SMALL, task="2/2")
    assert {source.path for source in Manifest.load(out).sources} == set(names)
    soundfile.write(audio / "later.wav", music(0.3, 22050, 1, 9), 22050)
    build(audio, out, **SMALL)
    assert {source.path for source in Manifest.load(out).sources} == {*names, "later.wav"}
    assert sum(Manifest.load(out).chunks(name) for name in Manifest.load(out).splits) > 20
    capsys.readouterr()


def test_a_chunk_is_a_second_and_the_hop_half_a_chunk_unless_said_otherwise(audio_dir, tmp_path):
    build(audio_dir, tmp_path / "a", rate=8000, workers=1)
    manifest = Manifest.load(tmp_path / "a")
    assert (manifest.rate, manifest.samples, manifest.hop) == (8000, 8000, 4000)
    build(audio_dir, tmp_path / "b", samples=8192, workers=1)
    manifest = Manifest.load(tmp_path / "b")
    assert (manifest.rate, manifest.samples, manifest.hop) == (22050, 8192, 4096)
