"""Servers that never come to an end: opening data from them ends in one line, in bounded time and memory."""

import socket
import threading
import time
import tracemalloc

import pytest

from shards.errors import DataError
from shards.reading.remote import records
from shards.reading.remote.retry import RetryPolicy
from shards.reading.split import Split

PATIENCE = RetryPolicy(answer_s=1.0, total_s=2.0, first_pause_s=0.05, longest_pause_s=0.1)
LIMIT = 4 << 20  # bytes, in these tests
FILLING = b" " * (1 << 16)


def endless(connection: socket.socket, head: bytes) -> None:
    connection.sendall(head)
    while True:
        connection.sendall(FILLING)


def dripping(connection: socket.socket, head: bytes) -> None:
    connection.sendall(head)
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


KINDS = {
    "endless": (endless, b"HTTP/1.1 200 OK\r\n\r\n"),
    "endless as it says": (endless, b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n"),
    "slow": (dripping, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    "slow headers": (dripping, b"HTTP/1.1 200 OK\r\nX-Note: "),
    "an endless error": (endless, b"HTTP/1.1 404 Not Found\r\n\r\n"),
    "an endless error that passes": (endless, b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n"),
}
SAID = {
    "endless": f"it has more than {LIMIT:,} bytes, which no file of this kind has. Check the URL",
    "endless as it says": f"it has more than {LIMIT:,} bytes, which no file of this kind has. Check the URL",
    "slow": "or one too slow",
    "slow headers": "or one too slow",
    "an endless error": "HTTP 404 Not Found",
    "an endless error that passes": "HTTP 503",
}


@pytest.fixture
def serve():
    """serve(kind) -> the URL of a server that answers so."""
    listening = socket.create_server(("127.0.0.1", 0))

    def start(kind: str) -> str:
        work, head = KINDS[kind]

        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(65536)
                    work(connection, head)
                except OSError:
                    return

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/set"

    yield start
    listening.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_without_end_is_one_line(kind, serve, monkeypatch):
    monkeypatch.setattr(records, "LIMIT", LIMIT)
    monkeypatch.setattr(records, "_opening", lambda patience: patience)
    url, began = serve(kind), time.monotonic()
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        records.read_manifest(url, PATIENCE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    said = str(caught.value)
    assert said.startswith(f"{url}/dataset.json: ")
    assert SAID[kind] in said
    assert "\n" not in said
    assert time.monotonic() - began < 10
    assert peak < 6 * LIMIT


def test_a_manifest_in_another_store_is_bounded_too(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LIMIT", LIMIT)
    with open(tmp_path / "dataset.json", "wb") as file:
        file.truncate(LIMIT + 1)
    with pytest.raises(DataError, match=f"it has more than {LIMIT:,} bytes"):
        Split.open(f"file://{tmp_path}", "train")
