"""Thousands of damaged manifests and shards: an error for people or the right audio, never anything else."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from shards import BatchStream, DataError, Manifest, Split
from shards.verify import check_shard

VALUES = [None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**30, 1.5, float("nan"), "", "../x", "/etc/passwd", [], {}, [[]]]


def places(content, path=()):
    """The paths of all values in a JSON document."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def replaced(content, path, value):
    """A copy with another value at a path; ``...`` removes it."""
    if not path:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    if value is ... and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


def is_for_people(error, file):
    """Whether an error is one line that names the file."""
    return file in str(error) and "\n" not in str(error)


def without_ends(splits):
    """The shards without the hashes of their ends and their identities: others can only refuse a shard."""
    return {name: [replace(shard, ends="", identity="") for shard in shards] for name, shards in splits.items()}


def reads_as(content, original):
    """Whether a manifest is taken, and then with the same shards as the original; refused in one line if not."""
    parsed = refusal = None
    try:
        parsed = Manifest.parse(content, "dataset.json")
    except DataError as error:
        refusal = error
    if refusal:
        assert is_for_people(refusal, "dataset.json")
        return False
    assert without_ends(parsed.splits) == without_ends(original.splits)
    assert (parsed.rate, parsed.samples) == (original.rate, original.samples)
    return True


def test_manifests_with_other_values(data_dir):
    original = Manifest.load(data_dir)
    content = json.loads((data_dir / "dataset.json").read_text())
    paths = list(places(content))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        changed = content
        for _ in range(rng.integers(1, 3)):
            path = paths[rng.integers(len(paths))]
            value = [*VALUES, ...][rng.integers(len(VALUES) + 1)]
            try:
                changed = replaced(changed, path, value)
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change has taken the place away
        refused += not reads_as(json.dumps(None if changed is ... else changed).encode(), original)
    assert refused > 1000


def test_manifests_with_other_bytes(data_dir):
    original = Manifest.load(data_dir)
    content = (data_dir / "dataset.json").read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(1500):
        data = bytearray(content)
        begin = int(rng.integers(len(data)))
        match rng.integers(3):
            case 0:
                data[begin] ^= 1 << rng.integers(8)
            case 1:
                del data[begin : begin + rng.integers(1, 50)]
            case 2:
                data[begin:begin] = rng.bytes(rng.integers(1, 9))
        refused += not reads_as(bytes(data), original)
    assert refused > 1000


@pytest.fixture(scope="module")
def small(data_dir, tmp_path_factory):
    """A copy to damage, its shards as they should be, and the audio of each member name."""
    folder = tmp_path_factory.mktemp("fuzz") / "set"
    shutil.copytree(data_dir, folder)
    split = Split.open(folder, "train")
    every = np.arange(len(split))
    audio = dict(zip(split.names(every), split.read(every).numpy(), strict=True))
    files = [shard.file for shard in split.manifest.splits["train"]]
    split.close()
    return folder, {file: (folder / file).read_bytes() for file in files}, audio


def damaged(rng, data, stride):
    """Bytes of a shard with something wrong in them, and what."""
    data = bytearray(data)
    begin, size = int(rng.integers(len(data) - 1024)), int(rng.integers(1, 3 * stride))
    kind = ("flip", "zero", "noise", "shift", "cut", "grow", "swap")[rng.integers(7)]
    match kind:
        case "flip":
            data[begin] ^= 1 << rng.integers(8)
        case "zero":
            data[begin : begin + size] = bytes(len(data[begin : begin + size]))
        case "noise":
            data[begin : begin + size] = rng.bytes(len(data[begin : begin + size]))
        case "shift":
            data[begin:] = data[begin + 1 :] + b"\0"
        case "cut":
            del data[begin:]
        case "grow":
            data += rng.bytes(size)
        case "swap":
            one, other = (int(row) * stride for row in rng.choice(len(data) // stride, 2, replace=False))
            data[one : one + stride], data[other : other + stride] = (
                data[other : other + stride],
                data[one : one + stride],
            )
    return bytes(data), kind


@pytest.mark.slow(area="damage")
def test_no_damaged_shard_gives_wrong_audio_or_passes_verification(small):
    folder, files, audio = small
    manifest = Manifest.load(folder)
    shards = {shard.file: shard for shard in manifest.splits["train"]}
    rng = np.random.default_rng(2)
    delivered, errors = 0, set()
    for round_ in range(600):
        file = [*files][rng.integers(len(files))]
        data, kind = damaged(rng, files[file], manifest.chunk_format.stride)
        if data == files[file]:
            continue
        (folder / file).write_bytes(data)
        found = check_shard(folder / file, shards[file], manifest.chunk_format)
        assert found, kind
        assert found.file == file
        try:
            split = Split.open(folder, "train")
            # In turn through the memory map and record by record.
            with BatchStream(split, 50, round_, memory=None if round_ % 2 else 0) as stream:
                for _ in range(len(split) // 50):
                    batch = next(stream)
                    for name, samples in zip(split.names(batch.chunks), batch.audio.numpy(), strict=True):
                        assert np.array_equal(samples, audio[name]), (kind, name)
                    delivered += 1
            split.close()
        except DataError as error:
            errors.add((kind, is_for_people(error, file)))
        (folder / file).write_bytes(files[file])
    assert delivered > 600
    assert {"cut", "grow", "shift"} <= {kind for kind, _ in errors}
    assert all(well_said for _, well_said in errors)
