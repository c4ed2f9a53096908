import json
import multiprocessing
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from shards import DataError, Manifest, Split
from shards.chunk import ChunkFormat, member_name


@pytest.fixture
def copy(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture(scope="module")
def split(data_dir):
    return Split.open(data_dir, "train")


def direct(data_dir, manifest, chunk):
    """A chunk's name and samples read by plain file access."""
    shape = ChunkFormat(manifest.rate, manifest.samples)
    for shard in manifest.splits["train"]:
        if chunk < shard.chunks:
            record = (data_dir / shard.file).read_bytes()[chunk * shape.stride :][: shape.stride]
            return record[:25].decode(), np.frombuffer(record[556 : 556 + 2 * shape.samples], np.int16)
        chunk -= shard.chunks
    raise IndexError


def test_reading_is_what_the_files_hold(split, data_dir):
    assert len(split.manifest.splits["train"]) > 1
    chunks = np.random.default_rng(0).integers(0, len(split), 40)
    audio, names = split.read(chunks), split.names(chunks)
    sources, starts = split.keys()
    for row, chunk in enumerate(chunks):
        name, samples = direct(data_dir, split.manifest, chunk)
        assert names[row] == name == member_name(sources[chunk], starts[chunk])
        np.testing.assert_array_equal(audio[row].numpy(), samples)


def test_reading_into_a_buffer(split):
    chunks = np.array([3, len(split) - 1, 3, 0])
    buffer = torch.full((6, split.samples), -7, dtype=torch.int16)
    assert split.read(chunks, buffer[1:5]).data_ptr() == buffer[1:].data_ptr()
    assert torch.equal(buffer[1:5], split.read(chunks))
    assert (buffer[[0, 5]] == -7).all()
    assert split.read(np.empty(0, np.int64)).shape == (0, split.samples)


@pytest.mark.parametrize("chunk", [-1, 10**9])
def test_chunks_outside(split, chunk):
    with pytest.raises(IndexError):
        split.read(np.array([0, chunk]))


def _sum(split, queue):
    torch.set_num_threads(1)  # as in any fork: the parent's OpenMP threads are not there
    queue.put(int(split.read(np.arange(50)).sum()))


def test_threads_and_forks_share_a_split(split):
    expected = int(split.read(np.arange(50)).sum())
    with ThreadPoolExecutor(4) as pool:
        assert {int(x.sum()) for x in pool.map(split.read, [np.arange(50)] * 40)} == {expected}
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_sum, args=(split, queue), daemon=True)
    child.start()
    assert queue.get(timeout=120) == expected
    child.join()


def test_missing_and_short_shards_are_named(copy):
    shard = copy / Manifest.load(copy).splits["train"][1].file
    data = shard.read_bytes()
    shard.write_bytes(data[:-512])
    with pytest.raises(DataError, match=f"{shard.name} has {len(data) - 512} bytes"):
        Split.open(copy, "train")
    shard.unlink()
    with pytest.raises(DataError, match=f"{shard.name} cannot be read"):
        Split.open(copy, "train")
    with pytest.raises(DataError, match=f"{shard.name} cannot be mapped"):
        Split.open(copy, "train", verify_sizes=False)
    Split.open(copy, "valid")
    with pytest.raises(DataError, match="no split 'tests', only train, valid"):
        Split.open(copy, "tests")


def test_a_damaged_header_is_named(copy):
    manifest = Manifest.load(copy)
    shard = manifest.splits["train"][1]
    stride = manifest.chunk_format.stride
    with open(copy / shard.file, "r+b") as file:
        file.seek(2 * stride + 512 + 24)  # the sample rate of member 2
        file.write(b"\x00")
    split = Split.open(copy, "train")
    first = manifest.splits["train"][0].chunks
    split.read(np.array([first + 1, first + 3]))
    name = split.names(np.array([first + 2]))[0]
    with pytest.raises(DataError, match=rf"{shard.file}: member 2 \({name}\)"):
        split.read(np.array([0, first + 2]))


def test_fingerprints_tell_data_apart(copy, split):
    assert Split.open(copy, "train").fingerprint == split.fingerprint
    assert Split.open(copy, "valid").fingerprint != split.fingerprint


def edit(path, *keys, value):
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["format_version"], 1, "format_version is 1"),
        (["format_version"], None, "format_version"),
        (["rate"], 0, "rate"),
        (["samples"], "many", "samples"),
        (["samples"], True, "samples"),
        (["samples"], 2206, "cannot hold|fingerprint"),
        (["splits"], [], "splits"),
        (["splits", "train"], {}, "splits.train"),
        (["splits", "train", 0, "file"], "../../etc/passwd", "plain file name"),
        (["splits", "train", 0, "file"], "/etc/passwd", "plain file name"),
        (["splits", "train", 0, "file"], "..", "plain file name"),
        (["splits", "train", 0, "file"], "a\\b.tar", "plain file name"),
        (["splits", "train", 0, "file"], "", "plain file name"),
        (["splits", "train", 0, "file"], 3, "file"),
        (["splits", "train", 0, "file"], "other.tar", "fingerprint"),
        (["splits", "train", 0, "chunks"], -1, "chunks"),
        (["splits", "train", 0, "chunks"], 10**30, "a number in it is too large"),
        (["splits", "train", 0, "chunks"], 1, "cannot hold"),
        (["splits", "train", 0, "xxh3"], "0", "fingerprint"),
        (["levels"], {}, "different splits"),
        (["levels", "train", "rms"], float("nan"), "finite"),
        (["sources", 0, "path"], 1, "path"),
        (["sources", 0, "split"], "nowhere", "not listed"),
        (["sources"], None, "sources"),
        (["fingerprint"], "", "fingerprint"),
    ],
)
def test_hostile_manifests(copy, keys, value, message):
    edit(copy / "dataset.json", *keys, value=value)
    with pytest.raises(DataError, match=message) as raised:
        Manifest.load(copy)
    assert "dataset.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_manifests_that_are_no_manifest(tmp_path, content):
    with pytest.raises(DataError, match="no data folder"):
        Manifest.load(tmp_path)
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(DataError, match=r"dataset\.json"):
        Manifest.load(tmp_path)


def test_a_manifest_goes_both_ways(copy):
    manifest = Manifest.load(copy)
    before = (copy / "dataset.json").read_bytes()
    manifest.save(copy)
    assert (copy / "dataset.json").read_bytes() == before
    assert not list(copy.glob("*.tmp"))
