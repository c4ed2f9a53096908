import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shards.files import lease as lease_module
from shards.files.lease import Lease, holder, sweep

ROOT = Path(__file__).parents[3]
HOLD = "import sys, time; from pathlib import Path; from shards.files.lease import Lease\n"
HOLD += "lease = Lease.take(Path(sys.argv[1])); print(lease is not None, flush=True); time.sleep(60)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "x.lease"


@pytest.fixture
def other_process(path):
    """A process that holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()


def on_another_node(path: Path, beats: int = 1) -> None:
    """A lease as a process under another kernel would have written it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"beats": f"{beats:012d}", "host": "n7", "process": 4, "job": "12_3", "kernel": "other"}
    path.write_text(json.dumps(content))


def test_one_holder_at_a_time(path):
    with Lease.take(path) as lease:
        assert lease is not None
        assert Lease.take(path) is None
        assert f"process {os.getpid()}" in holder(path)
    assert not path.exists()
    with Lease.take(path):
        pass


def test_a_killed_holder_is_followed_at_once(path, other_process, monkeypatch):
    monkeypatch.setattr(lease_module, "STALE_S", 10**6)
    assert Lease.take(path) is None
    assert f"process {other_process.pid}" in holder(path)
    sweep(path.parent)
    assert path.exists()
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    with Lease.take(path) as lease:
        assert lease is not None


def test_what_killed_holders_leave_can_be_swept_up(path, other_process):
    other_process.kill()
    other_process.wait()
    on_another_node(path.with_name("elsewhere.lease"))
    sweep(path.parent)
    assert [file.name for file in path.parent.iterdir()] == ["elsewhere.lease"]


def test_a_dead_node_is_followed_after_a_while(path, monkeypatch, capsys):
    monkeypatch.setattr(lease_module, "STALE_S", 0.3)
    monkeypatch.setattr(lease_module, "_POLL_S", 0.01)
    on_another_node(path)
    with Lease.take(path) as lease:
        assert lease is not None
        assert f"process {os.getpid()}" in holder(path)
    assert (
        "waiting at most 0 s to see whether another build is alive (host n7, process 4, job 12_3)"
        in capsys.readouterr().err
    )


def test_a_living_node_is_respected(path, monkeypatch):
    monkeypatch.setattr(lease_module, "_POLL_S", 0.01)
    on_another_node(path)
    over = threading.Event()

    def beat():
        beats = 1
        while not over.wait(0.02):
            beats += 1
            on_another_node(path, beats)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        assert Lease.take(path) is None
    finally:
        over.set()
        thread.join()


def test_a_holder_beats(path, monkeypatch):
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.01)
    with Lease.take(path):
        first, end = path.read_bytes(), time.monotonic() + 20
        while path.read_bytes() == first:
            assert time.monotonic() < end
        assert len(path.read_bytes()) == len(first)


def test_a_holder_that_was_given_up_leaves_its_successor_alone(path):
    frozen = Lease.take(path)
    path.unlink()
    with Lease.take(path) as successor:
        frozen.release()
        assert successor is not None
        assert path.exists()
    assert not path.exists()


def test_without_kernel_locks_the_beats_decide(path, monkeypatch):
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(lease_module, "_POLL_S", 0.01)
    monkeypatch.setattr(lease_module, "_lock", lambda handle: False)
    with Lease.take(path):
        assert Lease.take(path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x00" * 50, b'{"kernel": 3}'])
def test_damaged_leases_count_as_dead(path, monkeypatch, content):
    monkeypatch.setattr(lease_module, "STALE_S", 0.1)
    path.parent.mkdir()
    path.write_bytes(content)
    with Lease.take(path) as lease:
        assert lease is not None


def test_many_at_once_are_one_at_a_time(path):
    held, most, taken = 0, 0, 0
    lock = threading.Lock()

    def work():
        nonlocal held, most, taken
        for _ in range(20):
            lease = Lease.take(path)
            if lease is None:
                continue
            with lock:
                held += 1
                taken += 1
                most = max(most, held)
            with lock:
                held -= 1
            lease.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert taken > 0
