"""Shards of the right name and size that belong to another build, or that were copied by half, are found."""

import json
import os
import shutil

import numpy as np
import pytest
import xxhash
from range_server import RangeServer
from small_builds import SMALL, build_here

from shards import DataError, Manifest, Split
from shards.building.build import build
from shards.chunk import END_OF_TAR, HEADERS, read_names
from shards.verify import verify

REMEDY = "opy it again, or build the data again"


@pytest.fixture
def copy(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "set")
    return tmp_path / "set"


def replace_by_another_build(folder, name="train", number=1):
    """A shard with the same names and other, sound audio. Returns its file."""
    manifest = Manifest.load(folder)
    shape, shard = manifest.chunk_format, manifest.splits[name][number]
    records = np.frombuffer((folder / shard.file).read_bytes()[: -len(END_OF_TAR)], np.uint8).reshape(-1, shape.stride)
    source, start, _ = read_names(records[:, :25])
    audio = records[:, HEADERS : shape.hashed].view("<i2")
    (folder / shard.file).write_bytes(shape.records(audio ^ 1, source, start).tobytes() + END_OF_TAR)
    return folder / shard.file


def without_ends(folder):
    """As the versions before wrote it."""
    content = json.loads((folder / "dataset.json").read_text())
    for rows in content["splits"].values():
        for row in rows:
            del row["ends"]
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
    fingerprint = Manifest.load(copy).fingerprint
    without_ends(copy)
    assert Manifest.load(copy).fingerprint == fingerprint
    replace_by_another_build(copy)
    Split.open(copy, "train").close()
    Manifest.load(copy).save(copy)  # as when recordings are added
    Split.open(copy, "train").close()


@pytest.mark.parametrize("value", ["x", "0" * 31, 5, None, "G" * 32])
def test_a_wrong_hash_in_the_manifest_is_named(copy, value):
    content = json.loads((copy / "dataset.json").read_text())
    content["splits"]["train"][1]["ends"] = value
    (copy / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="ends of shard 1 of train must be"):
        Manifest.load(copy)
