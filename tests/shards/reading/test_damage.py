import shutil

import numpy as np
import pytest

from shards import BatchStream, DataError, Manifest, Split


@pytest.fixture
def copy(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "set")
    return tmp_path / "set"


def flip(folder, chunk, offset, bit=0x10):
    """Change one byte of a chunk of the training split; returns its shard and row."""
    manifest = Manifest.load(folder)
    for shard in manifest.splits["train"]:
        if chunk < shard.chunks:
            with open(folder / shard.file, "r+b") as file:
                file.seek(chunk * manifest.chunk_format.stride + offset)
                byte = file.read(1)[0]
                file.seek(-1, 1)
                file.write(bytes([byte ^ bit]))
            return shard.file, chunk
        chunk -= shard.chunks
    raise IndexError


def epoch(split, world=1, batch=20, **settings):
    """Chunks of an epoch in order, their audio, and the damage that was told of."""
    streams = [BatchStream(split, batch, 3, rank, world, **settings) for rank in range(world)]
    chunks, audio, damage = [], [], []
    for _ in range(len(split) // batch):
        order, heard = np.zeros(batch, int), np.zeros((batch, split.samples), np.int16)
        for stream in streams:
            part = next(stream)
            order[part.rows.numpy()] = part.chunks
            heard[part.rows.numpy()] = part.audio.numpy()
        chunks.append(order)
        audio.append(heard)
    for stream in streams:
        damage += stream.damage()
        assert not stream.damage()
        stream.close()
    return np.concatenate(chunks), np.concatenate(audio), damage


# In the tar header, the WAV header, the samples, and in the checksum itself.
@pytest.mark.parametrize("offset", [3, 100, 520, 556, 3000, 556 + 4410 + 9])
@pytest.mark.parametrize("memory", [None, 0])
def test_a_damaged_chunk_is_replaced_and_named(copy, offset, memory):
    whole, sound, _ = epoch(Split.open(copy, "train"))
    bad = int(whole[37])
    shard, row = flip(copy, bad, offset)
    split = Split.open(copy, "train")
    chunks, audio, damage = epoch(split, memory=memory)
    assert [(d.chunk, d.shard, d.member) for d in damage] == [(bad, f"{copy}/{shard}", row)]
    assert chunks[37] == damage[0].replacement != bad
    assert np.array_equal(audio[37], split.read(chunks[37:38])[0])
    others = np.arange(len(chunks)) != 37
    assert chunks[others].tolist() == whole[others].tolist()
    assert np.array_equal(audio[others], sound[others])


def test_replacements_are_the_same_for_all_ranks_readers_and_epochs(copy):
    for chunk in range(100, 107):
        flip(copy, chunk, 700)
    split = Split.open(copy, "train")
    chunks, audio, _ = epoch(split)
    assert not set(range(100, 107)) & set(chunks.tolist())
    for world, memory in ((3, None), (2, 0), (1, 10**9)):
        again, heard, damage = epoch(split, world, memory=memory)
        assert again.tolist() == chunks.tolist()
        assert np.array_equal(audio, heard)
        assert {d.chunk for d in damage} <= set(range(100, 107))


def test_too_much_damage_ends_the_run(copy):
    for chunk in range(200, 212):
        flip(copy, chunk, 700)
    with pytest.raises(DataError, match=r"train-00000-00\d\.tar: member \d+ is damaged, the \d+\. damaged chunk"):
        epoch(Split.open(copy, "train"), batch=1)  # no tail that an epoch leaves out
    epoch(Split.open(copy, "train"), damage_limit=0.1)


def test_none_allowed_means_none(copy):
    flip(copy, 5, 700)
    with pytest.raises(DataError, match=r"the 1\. damaged chunk"):
        epoch(Split.open(copy, "train"), batch=1, damage_limit=0.0)


def test_reading_without_replacing_names_shard_and_member(copy):
    shard, row = flip(copy, 5, 700)
    split = Split.open(copy, "train")
    with pytest.raises(DataError, match=rf"{shard}: member {row} \(\d+_\d+.wav\) is damaged"):
        split.read(np.array([4, 5, 6]))
    split.read(np.array([4, 6]))
