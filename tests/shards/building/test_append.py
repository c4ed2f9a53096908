"""Adding recordings to a data set that is finished."""

import shutil

import numpy as np
import pytest
import soundfile
from small_builds import SMALL, add_recordings, build_here, contents

from shards import DataError, Manifest, Split
from shards.building.build import build
from shards.verify import verify
from tests.shards.conftest import music


@pytest.fixture(autouse=True)
def here(monkeypatch):
    build_here(monkeypatch)
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 60)


@pytest.fixture
def audio(tmp_path):
    add_recordings(tmp_path / "audio", range(8))
    return tmp_path / "audio"


def keys(folder, name):
    split = Split.open(folder, name)
    sources, starts = split.keys()
    return list(zip(sources.tolist(), starts.tolist(), strict=True))


def test_what_is_there_stays_as_it_is(audio, tmp_path):
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    before, files = Manifest.load(out), contents(out)
    order = {name: keys(out, name) for name in before.splits}
    # In the order of their names some come first, some last.
    soundfile.write(audio / "000.wav", music(0.7, 22050, 1, 90), 22050)
    (audio / "sub").mkdir()
    add_recordings(audio / "sub", range(20, 26))
    build(audio, out, **SMALL)

    after = Manifest.load(out)
    files.pop("dataset.json")
    assert files.items() <= contents(out).items()
    assert after.sources[:8] == before.sources
    assert [source.path for source in after.sources[8:]] == ["000.wav", *(f"sub/{i}.wav" for i in range(20, 26))]
    for name in before.splits:
        assert after.splits[name][: len(before.splits[name])] == before.splits[name]
        assert keys(out, name)[: len(order[name])] == order[name]
    assert sum(source.chunks for source in after.sources) == sum(len(keys(out, name)) for name in after.splits)
    assert after.fingerprint != before.fingerprint
    verify(out)
    assert not (out / ".build").exists()

    rows = {source.path: row for row, source in enumerate(after.sources)}
    split = Split.open(out, after.sources[rows["000.wav"]].split)
    sources, starts = split.keys()
    found = split.read(np.flatnonzero(sources == rows["000.wav"])).numpy()
    expected = soundfile.read(audio / "000.wav", dtype="int16")[0]
    gain = 10 ** (after.sources[rows["000.wav"]].gain_db / 20)
    for start, chunk in zip(starts[sources == rows["000.wav"]], found, strict=True):
        assert np.abs(chunk - gain * expected[start : start + 2205]).max() < 1


def test_the_same_steps_give_the_same_bytes(audio, tmp_path, monkeypatch):
    def steps(out, **more):
        late = tmp_path / "late"
        late.mkdir(exist_ok=True)
        for file in sorted(audio.iterdir())[4:]:
            file.rename(late / file.name)
        build(audio, out, **SMALL)
        for file in late.iterdir():
            file.rename(audio / file.name)
        for task in more.pop("tasks", [""]):
            build(audio, out, **SMALL, task=task)

    steps(tmp_path / "a")
    steps(tmp_path / "b", tasks=["3/3", "1/3", "2/3"])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_nothing_new(audio, tmp_path, capsys):
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    before = contents(out)
    build(audio, out, **SMALL)
    assert "is complete: nothing to do" in capsys.readouterr().out
    assert contents(out) == before


def test_what_cannot_be_added_changes_nothing(audio, tmp_path):
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    before = contents(out)
    other = tmp_path / "other"
    add_recordings(other, range(30, 33))
    with pytest.raises(DataError, match=r"8 recordings are no longer there in .*put or link them into the folder"):
        build(other, out, **SMALL)
    with pytest.raises(DataError, match=r"was built with --valid 0\.2"):
        build(audio, out, **SMALL | {"valid": 0.3})
    soundfile.write(audio / "03.wav", music(1, 22050, 1, 50), 22050)
    with pytest.raises(DataError, match=r"1 recordings have changed .*'03\.wav'"):
        build(audio, out, **SMALL)
    assert contents(out) == before


def test_a_linked_folder_adds_its_recordings(audio, tmp_path):
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    add_recordings(tmp_path / "other", range(30, 33))
    (audio / "more").symlink_to(tmp_path / "other")
    build(audio, out, **SMALL)
    assert [source.path for source in Manifest.load(out).sources[8:]] == [f"more/{i}.wav" for i in (30, 31, 32)]


def test_a_mended_recording_takes_its_row(audio, tmp_path):
    out = tmp_path / "set"
    whole = (audio / "05.wav").read_bytes()
    (audio / "05.wav").write_bytes(whole[: len(whole) // 3])
    build(audio, out, **SMALL)
    assert Manifest.load(out).sources[5].note.startswith("truncated or damaged: only")
    (audio / "05.wav").write_bytes(whole)
    (audio / "also new.txt").write_text("no audio")
    build(audio, out, **SMALL)
    manifest = Manifest.load(out)
    assert manifest.sources[5].chunks > 0
    assert [source.path for source in manifest.sources[6:]] == ["06.wav", "07.wav", "also new.txt"]
    verify(out)


def test_a_link_to_nothing_is_skipped_until_it_leads_somewhere_and_missed_when_it_no_longer_does(
    audio, tmp_path, capsys
):
    link, song = audio / "link.wav", tmp_path / "song.wav"
    link.symlink_to(song)
    build(audio, tmp_path / "set", **SMALL)
    row = Manifest.load(tmp_path / "set").sources[-1]
    assert (row.path, row.split, row.note) == ("link.wav", None, "unreadable: a link to a file that is not there")
    assert "skipped 1 (1 unreadable)" in capsys.readouterr().out
    soundfile.write(song, music(0.7, 22050, 1, 90), 22050)
    build(audio, tmp_path / "set", **SMALL)
    assert Manifest.load(tmp_path / "set").sources[-1].split is not None
    assert "skipped 0\n" in capsys.readouterr().out
    song.unlink()
    with pytest.raises(DataError, match=r"1 recordings are no longer there in .*'link\.wav'"):
        build(audio, tmp_path / "set", **SMALL)


def test_only_files_that_give_nothing(audio, tmp_path, capsys):
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    before = Manifest.load(out)
    (audio / "readme").write_text("no audio")
    nan = np.full(3000, np.nan)
    soundfile.write(audio / "nan.wav", nan, 22050, "FLOAT")
    build(audio, out, **SMALL)
    after = Manifest.load(out)
    assert after.fingerprint == before.fingerprint
    assert [source.note.split(":")[0] for source in after.sources[8:]] == ["not finite", "not audio"]
    capsys.readouterr()
    build(audio, out, **SMALL)
    assert "is complete" in capsys.readouterr().out


def test_a_stopped_build_first_finishes_its_plan(audio, tmp_path):
    out = tmp_path / "set"
    build(audio, out, **SMALL, task="1/2")
    add_recordings(audio, range(40, 42))
    build(audio, out, **SMALL)
    sources = Manifest.load(out).sources
    assert [source.path for source in sources[8:]] == ["40.wav", "41.wav"]
    assert all(source.split for source in sources)
    verify(out)


def test_a_data_set_that_lost_a_shard_is_not_added_to(audio, tmp_path):
    out = tmp_path / "set"
    build(audio, out, **SMALL)
    add_recordings(audio, range(40, 42))
    lost = next(out.glob("train*.tar"))
    shutil.move(lost, tmp_path)
    with pytest.raises(DataError, match=rf"{lost.name} cannot be read"):
        build(audio, out, **SMALL)
