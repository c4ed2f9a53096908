import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shards import DataError, Manifest, Split
from shards.reading.sources import local
from shards.reading.sources.local import LocalRecords
from shards.reading.sources.memory import allocate, available_memory

ROOT = Path(__file__).parents[3]


def open_records(data_dir, **settings):
    manifest = Manifest.load(data_dir)
    return LocalRecords(data_dir, manifest.splits["train"], manifest.chunk_format, **settings)


def buffer(count, stride=8192):
    return allocate(count * stride).reshape(count, stride)


def expected(data_dir, first, count):
    split = Split.open(data_dir, "train")
    return split.raw(np.arange(first, first + count))


@pytest.mark.parametrize("direct", [True, False])
def test_runs_cross_shards(data_dir, direct):
    records = open_records(data_dir, direct=direct)
    manifest = Manifest.load(data_dir)
    first, whole = manifest.splits["train"][0].chunks - 3, manifest.chunks("train")
    for start, count in ((0, 1), (first, 7), (0, whole), (whole - 1, 1)):
        out = buffer(count)
        records.read(start, out)
        assert np.array_equal(out, expected(data_dir, start, count))
    records.close()


def test_a_file_system_that_refuses_direct_reads_is_read_otherwise(data_dir, monkeypatch):
    real, refused = os.preadv, []

    def preadv(handle, buffers, offset):
        import fcntl

        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT:
            refused.append(handle)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(handle, buffers, offset)

    monkeypatch.setattr(local.os, "preadv", preadv)
    records, out = open_records(data_dir), buffer(200)
    records.read(0, out)
    assert refused
    assert np.array_equal(out, expected(data_dir, 0, 200))
    seen = len(refused)
    records.read(
        Manifest.load(data_dir).chunks("train") - 200, out
    )  # in shards that were not opened yet: not tried again
    assert len(refused) <= seen + 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOENT])
def test_failures_name_the_shard(data_dir, monkeypatch, number):
    real = os.open

    def refuse(path, *rest, **more):
        if os.fspath(path).endswith(".tar"):
            raise OSError(number, os.strerror(number))
        return real(path, *rest, **more)

    monkeypatch.setattr(local.os, "open", refuse)
    with pytest.raises(DataError, match=rf"train-00000-000.tar cannot be read \({os.strerror(number)}\)"):
        open_records(data_dir).read(0, buffer(1))


def test_a_shard_that_shrinks_is_named(data_dir, tmp_path):
    manifest = Manifest.load(data_dir)
    row = manifest.splits["train"][0]
    (tmp_path / row.file).write_bytes((data_dir / row.file).read_bytes())
    records = LocalRecords(tmp_path, [row], manifest.chunk_format)
    records.read(5, buffer(1))
    os.truncate(tmp_path / row.file, 6 * manifest.chunk_format.stride)
    with pytest.raises(DataError, match=f"{row.file} ends at byte {6 * 8192}: it became shorter while it was read"):
        records.read(5, buffer(2))


def test_few_files_stay_open_and_none_after_closing(data_dir, monkeypatch):
    monkeypatch.setattr(local, "OPEN_FILES", 2)
    before = len(os.listdir("/proc/self/fd"))
    records = open_records(data_dir)
    whole = Manifest.load(data_dir).chunks("train")
    want = expected(data_dir, 0, whole)

    def read(start):
        out = buffer(1)
        records.read(start, out)
        return np.array_equal(out[0], want[start])

    with ThreadPoolExecutor(8) as pool:
        starts = np.random.default_rng(0).integers(0, whole, 400).tolist()
        assert all(pool.map(read, starts))
    assert len(os.listdir("/proc/self/fd")) - before <= 2
    records.close()
    assert len(os.listdir("/proc/self/fd")) <= before


SHRINK = """
import os, sys, numpy as np
from shards import Manifest, Split
folder, file, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
split = Split.open(folder, "train")
split.raw(np.arange(4))
os.truncate(f"{folder}/{file}", size)
split.raw(np.arange(90))
print("still here")
"""


def test_a_mapped_shard_that_shrinks_ends_the_process_with_one_line(data_dir, tmp_path):
    import shutil

    shutil.copytree(data_dir, tmp_path / "set")
    row = Manifest.load(data_dir).splits["train"][0]
    command = [sys.executable, "-c", SHRINK, str(tmp_path / "set"), row.file, "20000"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1000)
    assert ended.returncode == 1
    assert not ended.stdout
    assert ended.stderr.count("\n") == 1
    assert f"{row.file} has become shorter while it was read, 20000 bytes instead of {row.bytes}" in ended.stderr


OTHER = """
import mmap, os, sys
from shards.reading.sources import sigbus
sigbus.watch(0, [])
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 8192)
    os.truncate(file.fileno(), 0)
    print(memory[5000])
"""


def test_another_mapped_file_that_shrinks_is_named(tmp_path):
    (tmp_path / "other.bin").write_bytes(bytes(8192))
    command = [sys.executable, "-c", OTHER, str(tmp_path / "other.bin")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1000)
    assert ended.returncode == 1
    assert f"error: {tmp_path / 'other.bin'} can no longer be read" in ended.stderr
    assert 'File "<string>", line 8' in ended.stderr, "where it happened"


def test_mapped_memory_is_given_back(data_dir):
    def mapped():
        return Path("/proc/self/maps").read_text().count(str(data_dir))

    before = mapped()
    split = Split.open(data_dir, "train")
    split.mapped.prefault()
    view = split.mapped.records[5]
    want = view.copy()
    assert mapped() > before
    split.close()
    assert np.array_equal(view, want)  # not unmapped under the hands of a reader
    del view
    assert mapped() == before
    assert threading.active_count() < 50


def test_available_memory_is_some_and_not_more_than_the_machine_has():
    import psutil

    assert 0 < available_memory() <= psutil.virtual_memory().total
