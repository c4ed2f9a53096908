"""Shards of the right name and size that belong to another build, or that were copied by half, are found."""

import json
import os
import shutil
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch
import xxhash
from range_server import RangeServer
from small_builds import SMALL, add_recordings, build_here

from shards import BatchStream, DataError, Manifest, Split
from shards.building.build import build
from shards.chunk import END_OF_TAR, HEADERS, read_names, stored_identities
from shards.verify import verify

REMEDY = "opy it again, or build the data again"


@pytest.fixture
def copy(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "set")
    return tmp_path / "set"


def replace_by_another_build(folder, name="train", number=1):
    """A shard with the same names, the same identity and other, sound audio. Returns its file."""
    manifest = Manifest.load(folder)
    shape, shard = manifest.chunk_format, manifest.splits[name][number]
    records = np.frombuffer((folder / shard.file).read_bytes()[: -len(END_OF_TAR)], np.uint8).reshape(-1, shape.stride)
    source, start, _ = read_names(records[:, :25])
    audio = records[:, HEADERS : shape.hashed].view("<i2")
    (folder / shard.file).write_bytes(shape.records(audio ^ 1, source, start, shard.identity).tobytes() + END_OF_TAR)
    return folder / shard.file


def without_ends(folder):
    """As version 0.1 wrote it: no ends, and the same group in all records."""
    manifest = Manifest.load(folder)
    shape = manifest.chunk_format
    for shard in (shard for rows in manifest.splits.values() for shard in rows):
        records = np.frombuffer((folder / shard.file).read_bytes()[: -len(END_OF_TAR)], np.uint8)
        records = records.reshape(-1, shape.stride)
        source, start, _ = read_names(records[:, :25])
        audio = records[:, HEADERS : shape.hashed].view("<i2")
        content = shape.records(audio, source, start).tobytes() + END_OF_TAR
        (folder / shard.file).write_bytes(content)
        shard.__dict__["xxh3"] = xxhash.xxh3_128_hexdigest(content)
    manifest.save(folder)
    content = json.loads((folder / "dataset.json").read_text())
    for rows in content["splits"].values():
        for row in rows:
            del row["ends"], row["identity"]
    (folder / "dataset.json").write_text(json.dumps(content))


def test_the_manifest_holds_the_hash_of_both_records(data_dir):
    manifest = Manifest.load(data_dir)
    stride = manifest.chunk_format.stride
    for shard in (shard for rows in manifest.splits.values() for shard in rows):
        content = (data_dir / shard.file).read_bytes()
        begin = (shard.chunks - 1) * stride
        assert shard.ends == xxhash.xxh3_128_hexdigest(content[:stride] + content[begin : begin + stride])


def test_a_shard_of_another_build_is_refused_when_data_is_opened_verified_or_added_to(
    copy, audio_dir, monkeypatch, capsys
):
    shard = replace_by_another_build(copy)
    Split.open(copy, "valid").close()
    with pytest.raises(DataError, match=rf"^shard {shard} belongs to another build: .*{REMEDY}$"):
        Split.open(copy, "train")
    Split.open(copy, "train", verify_sizes=False).close()
    build_here(monkeypatch)
    with pytest.raises(DataError, match=rf"^shard {shard} belongs to another build: "):
        build(audio_dir, copy, **SMALL)
    with pytest.raises(DataError, match="1 of"):
        verify(copy)
    assert capsys.readouterr().out.startswith(f"{shard.name}: its checksum differs though every member is sound")


def test_a_remote_shard_of_another_build_is_refused_when_it_is_first_read(copy):
    shard = replace_by_another_build(copy)
    first = Manifest.load(copy).splits["train"][0].chunks
    with RangeServer(copy) as server:
        split = Split.open(server.url, "train")
        opened = len(server.requests)
        assert opened == 1 + len(split.manifest.splits["train"]), "the manifest, and a size of each shard"
        split.read(np.arange(first))
        assert len(server.requests) == opened + 2 + 1
        split.read(np.arange(first))
        assert len(server.requests) == opened + 2 + 2, "a shard is looked at once"
        with pytest.raises(DataError, match=rf"^shard {server.url}/{shard.name} belongs to another build: .*Copy it"):
            split.read(np.array([first + 2]))
        split.close()


def test_ends_that_are_damaged_on_the_way_are_fetched_once_more(copy):
    seen = []

    def flip_the_first(request):
        if request.path.endswith(".tar") and request.end - request.begin > 1:
            seen.append(request)
            return "flip" if len(seen) <= 2 else None
        return None

    with RangeServer(copy, flip_the_first) as server:
        split = Split.open(server.url, "train")
        split.read(np.array([2]))
        assert len(seen) == 5
        split.close()


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_a_copy_that_ends_in_zeros_is_refused(copy, share):
    shard = copy / Manifest.load(copy).splits["train"][0].file
    size = shard.stat().st_size
    os.truncate(shard, int(share * size))
    os.truncate(shard, size)
    with pytest.raises(DataError, match=rf"^shard {shard} begins or ends with zeros, .*{REMEDY}$"):
        Split.open(copy, "train")


def test_a_single_damaged_record_is_left_to_the_readers(copy):
    """They replace it by another chunk, wherever in the shard it is."""
    manifest = Manifest.load(copy)
    stride, (one, other, *_) = manifest.chunk_format.stride, manifest.splits["train"]
    for shard, record in ((one, 0), (other, other.chunks - 1)):
        with open(copy / shard.file, "r+b") as file:
            file.seek(record * stride + 1000)
            file.write(b"damage")
    Split.open(copy, "train").close()
    with open(copy / one.file, "r+b") as file:
        file.seek((one.chunks - 1) * stride + 1000)
        file.write(b"damage")
    with pytest.raises(DataError, match="holds other data: neither its first nor its last record is sound"):
        Split.open(copy, "train")


def test_data_of_the_version_before_is_read_and_not_compared(copy):
    with closing(Split.open(copy, "train")) as split:
        audio = split.read(np.arange(len(split)))
    without_ends(copy)
    verify(copy)
    fingerprint = Manifest.load(copy).fingerprint
    with closing(Split.open(copy, "train")) as split:
        assert torch.equal(split.read(np.arange(len(split))), audio)
    replace_by_another_build(copy)
    with closing(Split.open(copy, "train")) as split:
        assert len(split.read(np.arange(len(split)))) == len(audio)
    assert Manifest.load(copy).fingerprint == fingerprint
    Manifest.load(copy).save(copy)  # as when recordings are added
    Split.open(copy, "train").close()


@pytest.mark.parametrize("key", ["ends", "identity"])
@pytest.mark.parametrize("value", ["x", "0" * 31, 5, None, "G" * 32])
def test_a_wrong_hash_in_the_manifest_is_named(copy, key, value):
    content = json.loads((copy / "dataset.json").read_text())
    content["splits"]["train"][1][key] = value
    (copy / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"{key} of shard 1 of train must be"):
        Manifest.load(copy)


def shard_records(folder, shard):
    content = (folder / shard.file).read_bytes()[: -len(END_OF_TAR)]
    return np.frombuffer(content, np.uint8).reshape(-1, Manifest.load(folder).chunk_format.stride)


@pytest.fixture(scope="module")
def two_builds(tmp_path_factory):
    """Builds of the same recordings but for one, and a shard whose first and last chunk are the same in both."""
    audio, folder = tmp_path_factory.mktemp("recordings"), tmp_path_factory.mktemp("builds")
    add_recordings(audio, range(6))
    settings = SMALL | {"valid": 0.0, "chunks_per_shard": 20}
    with pytest.MonkeyPatch.context() as patched:
        build_here(patched)
        build(audio, folder / "one", **settings)
        for file in sorted(audio.glob("*.wav")):
            noise, rate = soundfile.read(file, dtype="int16")
            about = file.stat()
            noise[5000:9000:7] ^= 1  # another edition of the recording: as long, as loud
            whole = file.read_bytes()
            soundfile.write(file, noise, rate)
            os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
            build(audio, folder / "other", **settings)
            one, other = (Manifest.load(folder / name) for name in ("one", "other"))
            shape = one.chunk_format
            for mine, theirs in zip(one.splits["train"], other.splits["train"], strict=True):
                pair = [shard_records(folder / name, row) for name, row in (("one", mine), ("other", theirs))]
                audio_of = [records[:, HEADERS : shape.hashed] for records in pair]
                same = (audio_of[0] == audio_of[1]).all(axis=1)
                if same[0] and same[-1] and not same.all():
                    return folder, mine
            file.write_bytes(whole)
            os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
            shutil.rmtree(folder / "other")
    raise AssertionError("no recording is only in the middle of a shard")


def test_a_shard_of_a_build_that_differs_in_the_middle_of_the_shard_alone_is_refused(two_builds, tmp_path, capsys):
    folder, shard = two_builds
    shutil.copytree(folder / "one", tmp_path / "one")
    shutil.copy(folder / "other" / shard.file, tmp_path / "one")
    name = tmp_path / "one" / shard.file
    with pytest.raises(DataError, match=rf"^shard {name} belongs to another build: its records name another shard"):
        Split.open(tmp_path / "one", "train")
    with pytest.raises(DataError, match="1 of"):
        verify(tmp_path / "one")
    what = "of another shard or of another build"
    assert what in capsys.readouterr().out
    with RangeServer(tmp_path / "one") as server:
        with (
            closing(Split.open(server.url, "train")) as split,
            pytest.raises(DataError, match=rf"^shard {server.url}/{shard.file} belongs to another build: "),
        ):
            split.read(np.arange(len(split)))
        with pytest.raises(DataError, match="1 of"):
            verify(server.url)
        assert what in capsys.readouterr().out


@pytest.mark.parametrize("remote", [False, True])
def test_swapped_shards_of_one_build_are_refused(copy, remote):
    manifest = Manifest.load(copy)
    one, other = next((a, b) for a, b in pairwise(manifest.splits["train"]) if a.bytes == b.bytes)
    (copy / one.file).rename(copy / "aside")
    (copy / other.file).rename(copy / one.file)
    (copy / "aside").rename(copy / other.file)
    refused = pytest.raises(DataError, match="belongs to another build: its records name another shard")
    with RangeServer(copy) as server:
        if not remote:
            with refused:
                Split.open(copy, "train")
        else:
            with closing(Split.open(server.url, "train")) as split, refused:
                split.read(np.arange(len(split)))


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_records_of_another_build_in_the_middle_of_a_shard_are_replaced(two_builds, tmp_path, memory):
    """Such as after a copy in several pieces over an older file, of which one piece is missing."""
    folder, shard = two_builds
    shutil.copytree(folder / "one", tmp_path / "one")
    stride = Manifest.load(tmp_path / "one").chunk_format.stride
    with open(tmp_path / "one" / shard.file, "r+b") as file:
        file.seek(stride)
        file.write((folder / "other" / shard.file).read_bytes()[stride : 3 * stride])
    with closing(Split.open(tmp_path / "one", "train")) as split:
        begin = sum(one.chunks for one in split.manifest.splits["train"] if one.file < shard.file)
        with pytest.raises(DataError, match="is damaged"):
            split.read(np.array([begin + 1]))
        with BatchStream(split, len(split), seed=0, memory=memory) as stream:
            next(stream)
            assert sorted(one.chunk for one in stream.damage()) == [begin + 1, begin + 2]


def test_each_record_names_its_shard_and_each_shard_is_named_differently(data_dir):
    shards = [shard for rows in Manifest.load(data_dir).splits.values() for shard in rows]
    assert len({shard.identity for shard in shards}) == len(shards) > 1
    for shard in shards:
        assert {row.tobytes().decode() for row in stored_identities(shard_records(data_dir, shard))} == {shard.identity}
