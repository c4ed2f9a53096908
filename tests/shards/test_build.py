import io
import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile
import webdataset
from conftest import music

from shards import DataError, Manifest, Split
from shards.building import build as build_module
from shards.building.build import build
from shards.building.part import result_path
from shards.building.plan import Candidate, Settings, assign_splits, make_plan
from shards.chunk import parse_name

SMALL = {"samples": 2205, "hop": 1000, "valid": 0.2, "chunks_per_shard": 100, "workers": 1}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


class Killed(BaseException):
    pass


def test_a_killed_build_continues_to_the_same_bytes(audio_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 120)
    build(audio_dir, tmp_path / "whole", **SMALL)

    def die(*_):
        raise Killed

    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "_merge", die)
        with pytest.raises(Killed):
            build(audio_dir, out, **SMALL)
    assert not (out / "dataset.json").exists()
    # As if it had been killed within part 1, and part 2 had lost a shard, while part 0 was done.
    result_path(out, 1).unlink()
    (out / ".build" / "part-00001").mkdir()
    (out / ".build" / "part-00001" / "train-000.rows").write_bytes(b"half a rec")
    for shard in out.glob("*-00002-*.tar"):
        shard.write_bytes(b"short")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*-00000-*.tar")}
    with pytest.raises(DataError, match="unfinished build with other settings"):
        build(audio_dir, out, **SMALL | {"hop": 500})
    build(audio_dir, out, **SMALL)
    assert contents(out) == contents(tmp_path / "whole")
    assert kept
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


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
    with pytest.raises(DataError, match="recordings have changed"):
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

    with pytest.raises(DataError, match="7 audio files were skipped"):
        build(audio, tmp_path / "set", valid=0.3, workers=1, strict=True)
    sources = {source.path: source for source in Manifest.load(tmp_path / "set").sources}
    skipped = {path: source.note.split(":")[0] for path, source in sources.items() if source.split is None}
    cut_flac = skipped.pop("x.flac")
    assert cut_flac in ("unreadable", "truncated or corrupt")
    assert skipped == {
        "cut.wav": "truncated",
        "corrupt.wav": "unreadable",
        "no bytes.wav": "empty",
        "no samples.wav": "empty",
        "nan.wav": "not finite",
        "bad\nname[red].wav": "unreadable",
        **dict.fromkeys(("notes.txt", "README", "cover.jpg", "playlist.lst"), "not audio"),
    }
    kept = {path for path, source in sources.items() if source.split is not None}
    assert kept == {"good0.wav", "good1.wav", "good2.wav", "silent.wav", "short.wav"}
    assert sources["silent.wav"].silent
    assert sources["short.wav"].chunks == 1
    told = capsys.readouterr().out
    assert "kept 5 recordings (1 silent), skipped 11 (4 not audio)" in told
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
        ({"hop": 0}, "--hop"),
        ({"hop": 30_000}, "--hop"),
        ({"samples": 0, "hop": 1}, "--samples"),
        ({"rate": -1}, "--rate"),
        ({"valid": 1.0}, "--valid"),
        ({"valid": float("nan")}, "--valid"),
        ({"chunks_per_shard": 0}, "--chunks_per_shard"),
        ({"workers": -1}, "--workers"),
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
    (tmp_path / ".build").mkdir()
    with build_module._lock(tmp_path / ".build"), pytest.raises(DataError, match="another build"):
        build(audio_dir, tmp_path, **SMALL)


def candidates(count, seconds=10.0):
    rng = np.random.default_rng(0)
    return [Candidate(f"{i:04d}.wav", 1, 1, rng.bytes(16).hex(), seconds, "") for i in range(count)]


def settings(**changes):
    base = {"rate": 100, "samples": 100, "hop": 50, "level": "peak", "valid": 0.1, "test": 0.05}
    return Settings(**base | {"chunks_per_shard": 50} | changes)


def test_splits_follow_content_and_do_not_move():
    many = candidates(2000)
    all_of_them = {c.path: c.split for c in assign_splits(settings(), many)}
    counts = Counter(all_of_them.values())
    assert counts["valid"] == pytest.approx(200, abs=50)
    assert counts["test"] == pytest.approx(100, abs=40)
    half = {c.path: c.split for c in assign_splits(settings(), many[::2])}
    assert half.items() <= all_of_them.items()


@pytest.mark.parametrize("count", range(2, 9))
def test_small_sets_have_both_splits(count):
    for valid in (0.001, 0.1, 0.5, 0.999):
        splits = Counter(c.split for c in assign_splits(settings(valid=valid, test=0), candidates(count)))
        assert splits["valid"] >= 1
        assert splits["train"] >= 1
    splits = Counter(c.split for c in assign_splits(settings(valid=0, test=0), candidates(count)))
    assert splits == {"train": count}


@pytest.mark.parametrize("seconds", [0.5, 10.0])
def test_a_single_recording_is_for_training(seconds):
    for valid in (0.001, 0.999):
        for found in (candidates(1, seconds), candidates(1, seconds) * 3):
            assert {c.split for c in assign_splits(settings(valid=valid, test=0), found)} == {"train"}


def test_copies_share_a_split_and_short_ones_are_not_chosen():
    pair = candidates(1) * 2
    assert len({c.split for c in assign_splits(settings(valid=0.5), pair)}) == 1
    mixed = [*candidates(3, seconds=0.5), Candidate("long.wav", 1, 1, "f" * 32, 9.0, "")]
    found = {c.path: c.split for c in assign_splits(settings(valid=0.001, test=0), mixed)}
    assert [path for path, split in found.items() if split == "valid"] == ["long.wav"]


def test_parts_hold_every_recording_once(monkeypatch):
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 200)
    plan = make_plan(settings(), candidates(300))
    rows = [row for part in plan.parts for row in part.sources]
    assert sorted(rows) == list(range(300))
    chunks = [19 * len(part.sources) for part in plan.parts]
    assert all(200 <= size < 220 for size in chunks[:-1])
    other = make_plan(settings(hop=51), candidates(300))
    assert plan.key != other.key
