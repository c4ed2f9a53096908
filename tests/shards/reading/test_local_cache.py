import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scratch_source
from hypothesis import given, settings
from hypothesis import strategies as st
from range_server import RangeServer
from remote_split import QUICK
from scratch_source import BLOCK, BLOCKS, COUNT, SHAPE, MemoryRecords, fail, make_records, until

import shards.reading.sources.local_cache as module
from shards.errors import DataError
from shards.manifest import Shard
from shards.reading.remote.records import RemoteRecords
from shards.reading.sources import block_file
from shards.reading.sources.local_cache import CachedRecords
from shards.reading.sources.memory import allocate

RECORDS = make_records()
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "PAUSE_S", 0.05)
    monkeypatch.setattr(block_file, "SPARE", 0)  # the disk of the tests may be nearly full
    monkeypatch.setattr(module, "COPY_BYTES", 2 * BLOCK * SHAPE.stride)


def scratch_of(source: MemoryRecords, folder: Path, **options) -> CachedRecords:
    return CachedRecords(source, folder, "set", COUNT, SHAPE, **{"block": BLOCK, "copiers": 0, **options})


def read(records, first: int = 0, count: int = COUNT) -> np.ndarray:
    out = allocate(count * SHAPE.stride).reshape(count, SHAPE.stride)
    out[:] = 0xAA
    records.read(first, out)
    return out


def files(folder: Path) -> tuple[Path, Path]:
    return folder / f"set.{BLOCK}.records", folder / f"set.{BLOCK}.present"


def spoil(folder: Path, block: int) -> None:
    """What a power loss may leave: a block that is marked as present, and empty."""
    with open(files(folder)[0], "r+b") as file:
        file.seek(block * BLOCK * SHAPE.stride)
        file.write(bytes(min(BLOCK, COUNT - block * BLOCK) * SHAPE.stride))


def open_files(folder: Path) -> list[str]:
    links = [f"/proc/self/fd/{handle}" for handle in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if os.path.islink(link) and str(folder) in os.readlink(link)]


def child(folder: Path, what: str, number: int) -> subprocess.Popen:
    command = [sys.executable, scratch_source.__file__, str(folder), json.dumps([what, number])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("copiers", [1, 3])
def test_the_copy_becomes_whole_and_needs_the_source_no_more(tmp_path, copiers, direct):
    source = MemoryRecords(RECORDS)
    with scratch_of(source, tmp_path / "new" / "folder", copiers=copiers, direct=direct) as scratch:
        until(lambda: scratch.present == scratch.blocks == BLOCKS)
        assert sum(count for _, count in source.calls) == COUNT  # each record once
        source.before = fail
        assert np.array_equal(read(scratch), RECORDS)
        assert np.array_equal(read(scratch, COUNT - 1, 1), RECORDS[-1:])
        assert scratch.healed == 0
    assert files(tmp_path / "new" / "folder")[0].read_bytes() == RECORDS.tobytes()


def test_the_next_attempt_finds_what_is_there(tmp_path):
    with scratch_of(MemoryRecords(RECORDS), tmp_path) as scratch:
        read(scratch, 0, 4 * BLOCK)
    source = MemoryRecords(RECORDS)
    with scratch_of(source, tmp_path) as scratch:
        assert scratch.present == 4
        assert np.array_equal(read(scratch, 0, 5 * BLOCK), RECORDS[: 5 * BLOCK])
    assert source.calls == [(4 * BLOCK, BLOCK)]


def test_what_is_read_is_kept_as_whole_blocks(tmp_path):
    source = MemoryRecords(RECORDS)
    with scratch_of(source, tmp_path) as scratch:
        for first, count in [(BLOCK + 1, 1), (BLOCK, BLOCK), (COUNT - 1, 1), (2 * BLOCK - 1, 2)]:
            assert np.array_equal(read(scratch, first, count), RECORDS[first : first + count])
        last = (BLOCKS - 1) * BLOCK
        assert source.calls == [(BLOCK, BLOCK), (last, COUNT - last), (2 * BLOCK, BLOCK)]
        assert scratch.present == 3


def test_a_limit_bounds_the_copy_and_is_said_once(tmp_path, caplog):
    source = MemoryRecords(RECORDS)
    with scratch_of(source, tmp_path, limit_bytes=3 * BLOCK * SHAPE.stride) as scratch:
        for first in range(0, COUNT - BLOCK, BLOCK):
            assert np.array_equal(read(scratch, first, BLOCK), RECORDS[first : first + BLOCK])
        assert scratch.present == 3
        source.calls.clear()
        assert np.array_equal(read(scratch, COUNT - 3, 2), RECORDS[COUNT - 3 : COUNT - 1])
        assert source.calls == [(COUNT - 3, 2)]  # what cannot be kept is not read
    assert files(tmp_path)[0].stat().st_blocks * 512 <= 3 * BLOCK * SHAPE.stride
    assert [record.message for record in caplog.records] == [
        f"the copy in {tmp_path} stays at {100 * 3 / BLOCKS:.0f} % of the split (there is no more room for it); "
        "the rest is read from its source"
    ]


def test_a_copier_respects_the_limit(tmp_path):
    with scratch_of(MemoryRecords(RECORDS), tmp_path, copiers=1, limit_bytes=5 * BLOCK * SHAPE.stride) as scratch:
        scratch._threads[0].join(120)
        assert scratch.present == 5
        assert np.array_equal(read(scratch), RECORDS)


def test_some_of_the_disk_stays_free(tmp_path, monkeypatch):
    monkeypatch.setattr(block_file, "SPARE", 0.05)
    real = os.fstatvfs

    def nearly_full(handle):
        status = list(real(handle))
        status[4] = int(0.05 * status[2])  # f_bavail, of f_blocks
        return os.statvfs_result(status)

    monkeypatch.setattr(os, "fstatvfs", nearly_full)
    with scratch_of(MemoryRecords(RECORDS), tmp_path, copiers=1) as scratch:
        assert np.array_equal(read(scratch), RECORDS)
        assert scratch.present == 0


def test_a_full_disk_ends_the_copying_but_not_the_reading(tmp_path, monkeypatch, caplog):
    def no_space_left(handle, data, offset):
        if offset >= 4 * BLOCK * SHAPE.stride:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwritev(handle, [data], offset)

    monkeypatch.setattr(os, "pwrite", no_space_left)
    with scratch_of(MemoryRecords(RECORDS), tmp_path, copiers=2) as scratch:
        for thread in scratch._threads:
            thread.join(120)
        for _ in range(2):
            assert np.array_equal(read(scratch), RECORDS)
        assert scratch.present == 4
    assert len(caplog.records) == 1
    assert "(No space left on device); the rest is read from its source" in caplog.text


def test_a_real_refusal_to_write_more_ends_the_copying_but_not_the_reading(tmp_path):
    program = f"""
import resource
from pathlib import Path
import numpy as np
from scratch_source import *
block_file.SPARE = 0
records = make_records()
scratch = CachedRecords(MemoryRecords(records), Path({str(tmp_path)!r}), "set", COUNT, SHAPE, block=BLOCK, copiers=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (5 * BLOCK * SHAPE.stride + 100,) * 2)
for _ in range(2):
    out = np.zeros_like(records)
    scratch.read(0, out)
    assert np.array_equal(out, records)
assert scratch.present == 5
scratch.close()
"""
    path = f"{ROOT}:{Path(__file__).parents[1]}"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode().count("stays at") == 1
    assert "(File too large)" in done.stderr.decode()


def test_marks_that_become_shorter_are_missing_blocks(tmp_path):
    program = f"""
import os
from pathlib import Path
import numpy as np
from scratch_source import *
block_file.SPARE = 0
records = make_records()
folder = Path({str(tmp_path)!r})
scratch = CachedRecords(MemoryRecords(records), folder, "set", COUNT, SHAPE, block=BLOCK, copiers=0)
for present in (BLOCKS, 0, BLOCKS):
    if not present:
        os.truncate(folder / f"set.{{BLOCK}}.present", 0)
    else:
        out = np.zeros_like(records)
        scratch.read(0, out)
        assert np.array_equal(out, records)
    assert scratch.present == present
assert str(folder) not in Path("/proc/self/maps").read_text()
scratch.close()
assert scratch.present == BLOCKS
"""
    path = f"{ROOT}:{Path(__file__).parents[1]}"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("obstacle", ["file", "link", "larger", "another user", "device"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, obstacle):
    folder = tmp_path / "scratch"
    if obstacle == "file":
        folder.write_text("no folder")
    elif obstacle == "device":
        folder = Path("/proc/none")
    else:
        folder.mkdir()
        records = files(folder)[0]
        if obstacle == "link":
            records.symlink_to(tmp_path / "elsewhere")
        else:
            records.write_bytes(bytes(COUNT * SHAPE.stride + 1))
        if obstacle == "another user":
            if os.geteuid() != 0:
                pytest.skip("only root can give files away")
            os.truncate(records, 0)
            os.chown(records, 12345, -1)
    with pytest.raises(DataError, match=rf"^the scratch folder {folder} cannot be written \(.+\): give another one"):
        scratch_of(MemoryRecords(RECORDS), folder)
    assert not open_files(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_power_loss_emptied_is_fetched_again(tmp_path):
    source = MemoryRecords(RECORDS)
    with scratch_of(source, tmp_path) as scratch:
        read(scratch)
        spoil(tmp_path, 3)
        spoil(tmp_path, BLOCKS - 1)
        source.calls.clear()
        assert np.array_equal(read(scratch, 1, COUNT - 2), RECORDS[1:-1])
        last = (BLOCKS - 1) * BLOCK
        assert source.calls == [(3 * BLOCK, BLOCK), (last, COUNT - last)]
        assert scratch.healed == 2
        source.before = fail
        assert np.array_equal(read(scratch), RECORDS)


def test_a_file_that_lost_its_end_is_filled_again(tmp_path):
    with scratch_of(MemoryRecords(RECORDS), tmp_path) as scratch:
        read(scratch)
        os.truncate(files(tmp_path)[0], 4 * BLOCK * SHAPE.stride)
        assert np.array_equal(read(scratch), RECORDS)
        assert np.array_equal(read(scratch), RECORDS)
    assert files(tmp_path)[0].read_bytes() == RECORDS.tobytes()


def test_records_that_are_damaged_in_the_source_stay_its_matter(tmp_path):
    damaged = RECORDS.copy()
    damaged[4 * BLOCK + 1, 600] ^= 1
    source = MemoryRecords(damaged)
    with scratch_of(source, tmp_path, copiers=2) as scratch:
        for thread in scratch._threads:
            thread.join(120)
            assert not thread.is_alive()  # the copy is as whole as it can be
        assert scratch.present == BLOCKS
        source.calls.clear()
        for _ in range(2):
            assert np.array_equal(read(scratch), damaged)
        assert source.calls == [(4 * BLOCK, BLOCK)] * 2
        source.records = RECORDS  # mended
        assert np.array_equal(read(scratch), RECORDS)
        source.before = fail
        assert np.array_equal(read(scratch), RECORDS)


def test_copying_leaves_the_source_to_training(tmp_path, monkeypatch):
    held, release, may_copy = threading.Event(), threading.Event(), threading.Event()
    claim = block_file.BlockFile.claim
    monkeypatch.setattr(block_file.BlockFile, "claim", lambda file: may_copy.is_set() and claim(file))

    def before(number: int) -> None:
        if number == 0:
            held.set()
            release.wait(120)

    source = MemoryRecords(RECORDS, before)
    with scratch_of(source, tmp_path, copiers=2) as scratch, ThreadPoolExecutor(1) as pool:
        awaited = pool.submit(read, scratch, (BLOCKS - 2) * BLOCK, BLOCK)
        assert held.wait(120)
        may_copy.set()
        until(lambda: len(source.calls) > 10)
        release.set()
        assert {count for _, count in source.calls[:11]} == {BLOCK}  # not the two blocks of a large read
        assert np.array_equal(awaited.result(), RECORDS[(BLOCKS - 2) * BLOCK : (BLOCKS - 1) * BLOCK])
        until(lambda: scratch.present == BLOCKS)


def test_copying_waits_for_a_source_that_fails(tmp_path, caplog):
    source = MemoryRecords(RECORDS, fail)
    with scratch_of(source, tmp_path, copiers=1) as scratch:
        until(lambda: len(source.calls) > 2)
        with pytest.raises(DataError, match="the source is gone"):
            read(scratch)
        source.before = lambda number: None
        until(lambda: scratch.present == BLOCKS)
        assert np.array_equal(read(scratch), RECORDS)
    assert [record.message for record in caplog.records] == [f"copying to {tmp_path} pauses: the source is gone"]


@pytest.mark.timeout(600)
def test_one_process_copies_and_another_goes_on_when_it_is_killed(tmp_path):
    first = child(tmp_path, "hang", 3)
    try:
        assert first.stdout.readline() == "waiting\n"
        source = MemoryRecords(RECORDS)
        with scratch_of(source, tmp_path, copiers=1) as scratch:
            polls, claim = [], scratch._file.claim
            scratch._file.claim = lambda: polls.append(None) or claim()
            until(lambda: len(polls) > 10)
            assert scratch.present == 3 * 2
            assert source.calls == []  # the other process has the right to copy
            assert np.array_equal(read(scratch, 0, 6 * BLOCK), RECORDS[: 6 * BLOCK])
            assert source.calls == []
            os.kill(first.pid, signal.SIGKILL)
            first.wait(120)
            until(lambda: scratch.present == BLOCKS)
            assert sum(count for _, count in source.calls) == COUNT - 6 * BLOCK
            assert np.array_equal(read(scratch), RECORDS)
            assert scratch.healed == 0
    finally:
        first.kill()
        first.wait(120)
        first.communicate()


@pytest.mark.timeout(600)
def test_two_processes_that_read_and_copy_at_once_see_the_right_bytes(tmp_path):
    other = child(tmp_path, "read", 1)
    assert other.stdout.readline() == "ready\n"
    with scratch_of(MemoryRecords(RECORDS), tmp_path, copiers=1) as scratch:
        other.stdin.write("go\n")
        other.stdin.flush()
        rng = np.random.default_rng(2)
        while other.poll() is None:
            first = int(rng.integers(COUNT))
            count = int(rng.integers(1, 1 + COUNT - first))
            assert np.array_equal(read(scratch, first, count), RECORDS[first : first + count])
        assert other.returncode == 0
        assert json.loads(other.communicate()[0]) == {"present": BLOCKS, "healed": 0}
        assert scratch.healed == 0
    assert files(tmp_path)[0].read_bytes() == RECORDS.tobytes()


def test_threads_that_read_while_it_copies_see_the_right_bytes(tmp_path):
    def read_some(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        first = int(rng.integers(COUNT))
        count = int(rng.integers(1, 1 + COUNT - first))
        return np.array_equal(read(scratch, first, count), RECORDS[first : first + count])

    with scratch_of(MemoryRecords(RECORDS), tmp_path, copiers=2) as scratch, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read_some, range(300)))
        assert scratch.healed == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shard")
    (folder / "one.tar").write_bytes(RECORDS.tobytes() + bytes(1024))
    with RangeServer(folder) as server:
        yield server


steps = st.one_of(
    st.tuples(st.just("read"), st.integers(0, COUNT - 1), st.integers(1, COUNT)),
    st.tuples(st.just("spoil"), st.integers(0, BLOCKS - 1)),
    st.tuples(st.just("reopen")),
)


@settings(max_examples=40, deadline=None)
@given(
    plan=st.lists(steps, min_size=1, max_size=12),
    faults=st.lists(st.sampled_from([None, None, 503, "drop", "cut", "short"]), min_size=1, max_size=8),
    copiers=st.integers(0, 2),
    limit=st.integers(0, BLOCKS),
)
def test_any_sequence_of_reads_over_a_flaky_server_equals_the_local_bytes(server, plan, faults, copiers, limit):
    kinds = [None, *faults]
    server.fault = lambda request: kinds[request.number % len(kinds)]

    def reopen() -> CachedRecords:
        rows = [Shard("one.tar", COUNT, SHAPE.shard_bytes(COUNT), "")]
        remote = RemoteRecords(server.url, rows, SHAPE, QUICK, verify_sizes=False)
        return scratch_of(remote, Path(folder), copiers=copiers, limit_bytes=limit * BLOCK * SHAPE.stride)

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        scratch = stack.enter_context(reopen())
        for what, *numbers in plan:
            if what == "read":
                first, count = numbers[0], min(numbers[1], COUNT - numbers[0])
                assert np.array_equal(read(scratch, first, count), RECORDS[first : first + count])
            elif what == "spoil":
                spoil(Path(folder), numbers[0])
            else:
                stack.close()
                scratch = stack.enter_context(reopen())


def test_nothing_is_left_open_when_it_is_closed_but_the_files(tmp_path):
    source = MemoryRecords(RECORDS)
    scratch = scratch_of(source, tmp_path, copiers=2)
    read(scratch)
    assert open_files(tmp_path)
    scratch.close()
    scratch.close()
    assert source.closed
    assert not open_files(tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scratch")]
    assert all(file.exists() for file in files(tmp_path))
    with pytest.raises(DataError, match="closed"):
        read(scratch)


def test_a_copier_that_hangs_in_the_source_delays_neither_closing_nor_writes_to_other_files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CLOSING_S", 0.01)
    go_on = threading.Event()
    source = MemoryRecords(RECORDS, lambda number: go_on.wait(120))
    scratch = scratch_of(source, tmp_path, copiers=1)
    until(lambda: len(source.calls) == 1)
    scratch.close()
    assert open_files(tmp_path)  # its file descriptors must not become those of other files
    go_on.set()
    scratch._threads[0].join(120)
    assert not open_files(tmp_path)
    assert scratch.present == 0


def test_records_outside_the_split_are_an_index_error(tmp_path):
    with scratch_of(MemoryRecords(RECORDS), tmp_path) as scratch:
        for first, count in [(-1, 2), (COUNT, 1), (COUNT - 1, 2)]:
            with pytest.raises(IndexError, match="are not all in this split"):
                read(scratch, first, count)
