"""The simulator of large runs: its counts are those of the arithmetic, on small cases."""

from pathlib import Path

import pytest

from benchmarks.scale import checkpoints, command, reading, startup
from shards.chunk import ChunkFormat

STRIDE = ChunkFormat().stride


def test_each_byte_is_read_once_where_ranks_divide_the_lanes_and_more_often_where_not():
    for world, times in ((8, 1), (64, 1), (96, 3)):
        load = reading.simulate(10**7, world, 16, 200 * 10**9, 1)
        assert load.way == "blocks"
        assert load.bytes / load.chunks / STRIDE == pytest.approx(times, rel=0.1)
        assert 0 < load.handles <= reading.OPEN_FILES


def test_without_memory_for_blocks_each_record_is_a_request():
    load = reading.simulate(10**7, 64, 16, 10**8, 1)
    assert (load.way, load.requests, load.bytes) == ("rows", load.chunks, load.chunks * STRIDE)
    assert reading.simulate(1000, 8, 16, 10**9, 1).way == "memory"


def test_files_are_told_apart():
    data, run = Path("/data"), Path("/run")
    kinds = {
        "/data/dataset.json": "manifest",
        "/data/a.tar": "shards",
        "/run/checkpoints/step-00000001/state.json": "checkpoint",
        "/run/run.json": "run folder",
        "/x/tiny.yaml": "presets",
        "/x/a.py": "Python",
        "/etc/hosts": "other",
    }
    assert {name: startup.kind_of(Path(name), data, run) for name in kinds} == kinds


def test_the_tables_of_the_command(tmp_path, capsys):
    words = ["reading", "goodput", "--quick", "--ranks", "1", "--out", str(tmp_path / "scale.json")]
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert said.count("| 10,000,000 |") == 2
    assert "| 5 | 1,024 | 9.8 h |" in said
    assert (tmp_path / "scale.json").exists()


def test_a_large_checkpoint():
    """16 bytes a parameter on the host, 20 in files."""
    item = checkpoints.large(1.0, 64, 1.0, 1.0, 10.0, 10.0)
    assert (item.host, item.files, item.device_ddp, item.write) == (16.0, 20.0, 20.0, 40.0)
