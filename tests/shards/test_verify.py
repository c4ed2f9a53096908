import shutil

import pytest

from shards import DataError, Manifest
from shards.inspect import summary
from shards.verify import verify


@pytest.fixture
def copy(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "set")
    return tmp_path / "set"


def test_a_sound_set(copy, capsys):
    verify(copy)
    assert "every byte as built" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("offset", "what"),
    [
        (0, "name"),
        (8, "name"),
        (30, "tar header"),
        (150, "tar header"),
        (300, "tar header"),
        (512, "WAV header"),
        (555, "WAV header"),
        (556, "samples"),
        (3000, "samples"),
        (556 + 2 * 2205, "padding"),
        (556 + 2 * 2205 + 8, "samples"),
        (556 + 2 * 2205 + 16, "padding"),
        (-1, "padding"),
    ],
)
def test_any_flipped_byte_is_found(copy, capsys, offset, what):
    manifest = Manifest.load(copy)
    shard, stride = manifest.splits["train"][-1], manifest.chunk_format.stride
    data = bytearray((copy / shard.file).read_bytes())
    data[3 * stride + offset % stride] ^= 0x40
    (copy / shard.file).write_bytes(data)
    with pytest.raises(DataError, match="1 of"):
        verify(copy)
    told = capsys.readouterr().out
    assert told.startswith(f"{shard.file}: ")
    assert what in told
    assert f"member 3 at byte {3 * stride}" in told


def test_every_bad_shard_is_listed(copy, capsys):
    shards = [shard for rows in Manifest.load(copy).splits.values() for shard in rows]
    short, ending, missing = (copy / shard.file for shard in shards[:3])
    short.write_bytes(short.read_bytes()[:5000])
    ending.write_bytes(ending.read_bytes()[:-1] + b"x")
    missing.unlink()
    with pytest.raises(DataError, match=f"3 of {len(shards)} shards"):
        verify(copy)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == [short.name, ending.name, missing.name]
    assert "5000 bytes instead of" in told[0]
    assert "the end" in told[1]


def test_swapped_members_are_found(copy):
    manifest = Manifest.load(copy)
    shard, stride = manifest.splits["valid"][0], manifest.chunk_format.stride
    data = (copy / shard.file).read_bytes()
    (copy / shard.file).write_bytes(data[stride : 2 * stride] + data[:stride] + data[2 * stride :])
    with pytest.raises(DataError):
        verify(copy)


def test_the_summary_counts_every_recording(data_dir):
    content = summary(Manifest.load(data_dir))
    assert sum(content["durations_s"]["recordings"]) == 8
    assert len(content["durations_s"]["edges"]) == len(content["durations_s"]["recordings"]) + 1
    assert sum(split["recordings"] for split in content["splits"].values()) == 8
    assert -30 < content["splits"]["train"]["rms_dbfs"] < content["splits"]["train"]["peak_dbfs"] < 0
