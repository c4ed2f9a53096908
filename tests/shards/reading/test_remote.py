import contextlib
import datetime
import os
import re
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address
from itertools import chain, repeat

import fsspec
import numpy as np
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from range_server import RangeServer
from remote_split import QUICK, RemoteSplit

from shards.errors import DataError
from shards.reading.manifests import is_url
from shards.reading.remote.failures import PermanentError
from shards.reading.remote.records import RemoteRecords, read_manifest
from shards.reading.remote.redirects import is_allowed, redirected
from shards.reading.remote.retry import RetryPolicy

SECRETS = ("reader", "pass%40word", "pass@word", "abc123signature")
PASSING = [500, 502, 503, 429, 408, "drop", "cut", "short"]


@pytest.fixture(scope="module")
def split(data_dir) -> RemoteSplit:
    split = RemoteSplit.of(data_dir)
    assert len(split.rows) > 1
    return split


@pytest.fixture
def server(split):
    with RangeServer(split.folder) as server:
        yield server


def connect(url: str, split: RemoteSplit, **options) -> RemoteRecords:
    return RemoteRecords(url, split.rows, split.shape, **{"patience": QUICK, **options})


def once(fault):
    """A fault for the first request of each range of more than the one byte that asks for a size."""
    seen, lock = set(), threading.Lock()

    def choose(request):
        key = request.path, request.begin, request.end
        with lock:
            if request.begin is None or request.end - request.begin == 1 or key in seen:
                return None
            seen.add(key)
        return fault

    return choose


def ranges(server) -> list[tuple]:
    """The requests for records."""
    return [(r.path, r.begin, r.end) for r in server.requests if r.begin is not None and r.end - r.begin > 1]


@pytest.fixture(scope="module")
def places(split):
    """The same folder behind three protocols."""
    memory = fsspec.filesystem("memory")
    memory.put(str(split.folder) + "/", "/data set", recursive=True)
    with RangeServer(split.folder) as server:
        opened = {
            "http": connect(server.url, split),
            "file": connect(f"file://{split.folder}", split),
            "memory": connect("memory://data set", split),
        }
        yield opened
        for records in opened.values():
            records.close()
    memory.rm("/data set", recursive=True)


@pytest.mark.parametrize("protocol", ["http", "file", "memory"])
@settings(deadline=None)
@given(data=st.data())
def test_any_run_of_records_equals_the_local_bytes(split, places, protocol, data):
    first = data.draw(st.integers(0, len(split.records) - 1))
    count = data.draw(st.integers(0, len(split.records) - first))
    out = split.room(count)
    places[protocol].read(first, out)
    assert np.array_equal(out, split.records[first : first + count])


def test_a_run_is_one_request_a_shard_and_keeps_its_connection(split, server):
    with connect(server.url, split, verify_sizes=False) as records:
        assert server.requests == []
        for _ in range(3):
            records.read(0, split.room())
    assert len(server.requests) == 3 * sum(row.chunks > 0 for row in split.rows)
    assert server.connections == 1


def test_records_outside_the_split_are_an_index_error(split, places):
    for first, count in [(-1, 2), (len(split.records), 1), (len(split.records) - 1, 2)]:
        with pytest.raises(IndexError, match="are not all in this split"):
            places["file"].read(first, split.room(count))


@pytest.mark.parametrize("fault", PASSING)
def test_a_failure_that_passes_is_not_seen(split, server, fault):
    server.fault = once(fault)
    with connect(server.url, split, patience=replace(QUICK, answer_s=10, total_s=60)) as records:
        out = split.room()
        records.read(0, out)
        assert np.array_equal(out, split.records)
        assert records.retries == len(set(ranges(server))) > 1


@pytest.mark.parametrize("fault", [*PASSING, "hang", "stall", "drip"])
def test_a_failure_that_stays_ends_in_one_line(split, server, fault):
    server.fault = lambda request: fault if request.end - request.begin > 1 else None
    total_s = 1.5 if fault in ("hang", "stall", "drip") else 0.5
    with (
        connect(server.url, split, patience=replace(QUICK, total_s=total_s)) as records,
        pytest.raises(DataError, match=rf"{split.rows[0].file}: .* after \d+ tries in .*reachable") as caught,
    ):
        records.read(0, split.room(2))
    assert "\n" not in str(caught.value)
    assert len(ranges(server)) > 1
    assert str(fault) in str(caught.value) or not isinstance(fault, int)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (401, "HTTP 401 Unauthorized.*password"),
        (403, "HTTP 403 Forbidden.*signed URL"),
        (404, "HTTP 404 Not Found.*copy"),
        (501, "HTTP 501"),
        ("whole", "ignores range requests.*copy the data folder"),
        ("shifted", "answers bytes 0-"),
        ("gzip", "compresses"),
        ("login", "answered with a web page .*signed URL"),
    ],
)
def test_a_failure_that_cannot_pass_ends_at_once(split, server, fault, words):
    server.fault = lambda request: fault if request.end - request.begin > 1 else None
    patient = replace(QUICK, answer_s=30.0, total_s=60.0)  # nothing here waits: a busy machine may answer late
    with connect(server.url, split, patience=patient) as records, pytest.raises(DataError, match=words):
        records.read(0, split.room(2))
    assert len(ranges(server)) == 1


def test_a_server_without_ranges_is_refused_before_anything_is_read(split, server):
    server.fault = lambda request: "whole"
    with pytest.raises(DataError, match="ignores range requests"):
        connect(server.url, split)


def test_records_that_are_damaged_on_the_way_are_fetched_once_more(split, server):
    server.fault = lambda request: "flip" if request.end - request.begin > split.shape.stride else None
    with connect(server.url, split) as records:
        out = split.room()
        records.read(0, out)
        assert np.array_equal(out, split.records)
        assert records.refetched == sum(row.chunks > 0 for row in split.rows)


def test_records_that_are_damaged_where_they_lie_come_as_they_are(split, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(split.folder, folder)
    with open(folder / split.rows[0].file, "r+b") as file:
        file.seek(split.shape.stride + 600)
        file.write(b"xx")
    with RangeServer(folder) as server, connect(server.url, split) as records:
        out = split.room()
        records.read(0, out)
        assert np.flatnonzero((out != split.records).any(axis=1)).tolist() == [1]
        assert split.shape.damaged(out).tolist().index(True) == records.refetched == 1


def test_a_shard_of_another_size_is_named_before_anything_is_read(split, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(split.folder, folder)
    with open(folder / split.rows[1].file, "ab") as file:
        file.write(b"more")
    with RangeServer(folder) as server:
        for url in (server.url, f"file://{folder}"):
            with pytest.raises(DataError, match=rf"{split.rows[1].file} has \d+ bytes, the manifest says \d+: copy"):
                connect(url, split)
        (folder / split.rows[1].file).unlink()
        for url, words in ((server.url, "HTTP 404"), (f"file://{folder}", "is missing")):
            with pytest.raises(DataError, match=rf"{split.rows[1].file}.* ?{words}"):
                connect(url, split)
        os.truncate(folder / split.rows[0].file, 3 * split.shape.stride)
        with (
            connect(server.url, split, verify_sizes=False) as records,
            pytest.raises(DataError, match=f"{split.rows[0].file}: it has {3 * split.shape.stride} bytes"),
        ):
            records.read(1, split.room(3))
        with (
            connect(server.url, split, verify_sizes=False) as records,
            pytest.raises(DataError, match=f"{split.rows[0].file}: it has {3 * split.shape.stride} bytes"),
        ):
            records.read(3, split.room(1))


@pytest.mark.parametrize("fault", [None, *PASSING, 401, 403, 404, "whole", "shifted", "hang", "moved", "gone"])
def test_no_secret_is_ever_shown(split, server, fault, caplog):
    address = server.url.split("//")[1]
    url = f"http://reader:pass%40word@{address}/?X-Signature=abc123signature"
    if fault == "gone":
        server.__exit__()
    else:
        server.fault = lambda request: fault
    fails = contextlib.nullcontext() if fault in (None, "moved") else pytest.raises(DataError)
    with fails as caught, connect(url, split, patience=RetryPolicy(0.1, 0.3, 0.01, 0.02)) as records:
        records.read(0, split.room(1))
    shown = ""
    if caught:
        shown = str(caught.value)
        assert f"http://{address}" in shown
        assert caught.value.__suppress_context__
    for secret in SECRETS:
        assert secret not in shown + caplog.text
    for request in server.requests:
        assert request.headers["authorization"] == "Basic cmVhZGVyOnBhc3NAd29yZA=="
        assert request.query in ("X-Signature=abc123signature", "moved")


@pytest.fixture
def elsewhere(split):
    """Another server with the same files, under another name than the first."""
    with RangeServer(split.folder) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        yield server


def test_a_redirect_to_another_host_is_followed_only_where_the_user_allows_it(split, server, elsewhere, monkeypatch):
    server.fault = lambda request: f"to {elsewhere.url}"
    url = server.url.replace("//", "//reader:pass%40word@")
    with pytest.raises(DataError, match=r"another host, localhost\. If you trust .*AUDIO_SHARDS_REDIRECTS=localhost"):
        connect(url, split)
    with pytest.raises(DataError, match="another host"):
        read_manifest(url, QUICK)
    assert not elsewhere.requests
    for allowed in ("example.org, localhost", "LOCALHOST"):
        monkeypatch.setenv("AUDIO_SHARDS_REDIRECTS", allowed)
        with connect(url, split) as records:
            out = split.room(3)
            records.read(0, out)
            assert np.array_equal(out, split.records[:3])
    assert elsewhere.requests
    assert all(request.headers.get("authorization") for request in server.requests)
    assert not any(request.headers.get("authorization") for request in elsewhere.requests), "the password is not theirs"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://169.254.169.254/latest/meta-data/!", "another host, 169.254.169.254"),
        ("http://127.0.0.1:1!", "another host, 127.0.0.1"),
        ("file:///etc/passwd!", "redirects from http:// to file:///etc/passwd"),
        ("http://[x!", "not a URL"),
        ("?again!", "more than 5 times"),
        ("", "more than 5 times"),
    ],
)
def test_other_redirects_are_refused(split, server, target, words):
    server.fault = lambda request: f"to {target}"
    with pytest.raises(DataError) as caught:
        connect(server.url, split)
    assert words in str(caught.value)
    assert len(server.requests) <= 6 * len(split.rows)


def test_hosts_that_a_list_allows():
    assert is_allowed("a.example.org", "x.y, .example.org")
    assert is_allowed("x.y", "X.Y")
    assert not any(is_allowed("example.org.evil.com", allowed) for allowed in ("example.org", ".example.org", ""))
    assert not any(is_allowed("a", allowed) for allowed in ("", ".", ",", " , ."))
    assert not is_allowed("", "")
    assert not is_allowed("badexample.org", ".example.org")
    assert redirected("http://a/x", "https://a/y") == "https://a/y"
    assert redirected("http://a/b/x?q", "y?z") == "http://a/b/y?z"
    with pytest.raises(PermanentError, match="from https:// to http://a"):
        redirected("https://a/x", "http://a/y")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nothing://bucket/x", "no protocol nothing://"),
        ("hf://datasets/somebody/x", "hf:// is not read. Run: hf download"),
        ("simplecache::s3://bucket/x", "chained URLs"),
        ("s3://key:secretsecret@bucket/x", "no user and password in a URL of this kind. Set AWS_PROFILE"),
        ("https://", "No host specified"),
        ("https://[host/x", "is no URL"),
        ("https://host:port/x", "port"),
        ("http://localhost:1/x", "the connection was refused"),
        ("http://no-such-host.invalid/x", "the name of its host is not known"),
        ("file:///no/such/folder", "there is no such file, folder or bucket"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_line(split, url, words, monkeypatch):
    look_up = socket.getaddrinfo

    def quick_look_up(host, *rest, **more):  # what a resolver says, without waiting for it
        if host == "no-such-host.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", quick_look_up)
    # A refused connection is tried until the time is over, and the first try takes time on a busy machine.
    patience = replace(QUICK, total_s=3 if "localhost" in url else 0.2)
    for attempt in (lambda: connect(url, split, patience=patience), lambda: read_manifest(url, patience)):
        with pytest.raises(DataError) as caught:
            attempt()
        assert "secretsecret" not in str(caught.value)
    if not url.startswith("file"):
        assert re.search(words, str(caught.value))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    file.write_bytes(private + made.public_bytes(pem))
    return file


def test_https_is_read_when_its_certificate_is_trusted_and_refused_at_once_when_not(split, certificate, monkeypatch):
    with RangeServer(split.folder, certificate=certificate) as server:
        with pytest.raises(
            DataError, match=r"^https://127\.0\.0\.1.*: its certificate is not trusted .*self.signed.*SSL_CERT_FILE"
        ):
            read_manifest(server.url, QUICK)
        assert server.requests == []
        assert server.connections == 1
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with connect(server.url, split) as records:
            out = split.room()
            records.read(0, out)
            assert np.array_equal(out, split.records)


def test_a_proxy_of_the_environment_is_used(split, server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    with connect("http://data.invalid", split) as records:
        out = split.room()
        records.read(0, out)
        assert np.array_equal(out, split.records)
    assert {request.headers["host"] for request in server.requests} == {"data.invalid"}
    assert {request.headers["proxy-authorization"] for request in server.requests} == {"Basic dXNlcjpzZWNyZXQ="}
    server.fault = lambda request: 502
    with pytest.raises(DataError) as caught:
        read_manifest("http://data.invalid", replace(QUICK, total_s=0.1))
    assert "secret" not in str(caught.value)


def test_settings_of_fsspec_that_do_not_fit_are_one_line(split, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"max_concurrency": -1, "key": "secretsecret"})
    with pytest.raises(DataError, match=r"^s3://bucket/x: ValueError \(max_concurrency must be"):
        connect("s3://bucket/x", split)
    assert not [thread for thread in threading.enumerate() if thread.name == "remote"]


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")])
def test_a_missing_package_is_named(split, monkeypatch, protocol, package):
    def absent(protocol):
        raise ImportError(f"Install something to read {protocol}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", absent)
    with pytest.raises(DataError, match=f"needs another package .* Run: python -m pip install {package}"):
        connect(f"{protocol}://bucket/folder", split)


def test_the_manifest_comes_whole_or_not_at_all(split, server):
    content = (split.folder / "dataset.json").read_bytes()
    faults = chain([503, "drop", "cut", "stall"], repeat(None))
    server.fault = lambda request: next(faults)
    assert read_manifest(server.url, replace(QUICK, total_s=10)) == content
    assert read_manifest(f"file://{split.folder}") == content
    server.fault = lambda request: "drip"
    with pytest.raises(DataError, match=r"no answer within .* or one too slow"):
        read_manifest(server.url, replace(QUICK, total_s=0.3))
    server.fault = lambda request: None
    for url in (server.url + "/nowhere", f"file://{split.folder}/nowhere"):
        with pytest.raises(DataError, match=r"nowhere/dataset\.json: (HTTP 404|there is no such file).*URL"):
            read_manifest(url, QUICK)


@pytest.mark.parametrize("fault", ["login", "to ", "to ?again!"])
def test_a_manifest_that_never_comes_ends_at_once(split, server, fault):
    """Without the minute of retries that an answer may take which passes."""
    server.fault = lambda request: fault
    began = time.monotonic()
    with pytest.raises(DataError, match=r"/dataset\.json: .*(web page|more than 5 times)"):
        read_manifest(server.url)
    assert len(server.requests) <= 6
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf\n <!-- a page -->"])
def test_a_web_page_is_told_from_a_manifest_in_any_store(tmp_path, start):
    (tmp_path / "dataset.json").write_bytes(start + b"<html></html>")
    with pytest.raises(DataError, match="answered with a web page"):
        read_manifest(f"file://{tmp_path}", QUICK)


def test_many_threads_over_a_flaky_server(split, caplog):
    kinds = [503, "drop", "cut", "short", "flip", None, None, None]
    with RangeServer(split.folder, lambda request: kinds[request.number % len(kinds)], 0.001) as server:
        with connect(server.url, split, patience=replace(QUICK, total_s=20), connections=4) as records:

            def work(seed: int) -> bool:
                rng = np.random.default_rng(seed)
                first = int(rng.integers(len(split.records)))
                out = split.room(int(rng.integers(1, 1 + len(split.records) - first)))
                records.read(first, out)
                return np.array_equal(out, split.records[first : first + len(out)])

            with ThreadPoolExecutor(12) as pool:
                right = list(pool.map(work, range(150)))
        assert records.retries > 100
    assert "pool is full" not in caplog.text
    # A record whose second copy is damaged as well comes as it is: the reader above finds it.
    assert np.mean(right) > 0.5


def test_nothing_is_left_when_it_is_closed(split, server):
    def left() -> tuple[set[str], int]:
        clients = [c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == server.port]
        return {thread.name for thread in threading.enumerate() if "remote" in thread.name}, len(clients)

    fsspec.filesystem("memory").put(str(split.folder) + "/", "/set", recursive=True)
    before = left()
    server.fault = once("drop")
    opened = [connect(server.url, split), connect("memory://set", split), connect(f"file://{split.folder}", split)]
    for records in opened:
        records.read(0, split.room())
    assert left()[1] > 0
    opened[0].close()
    for records in opened:
        records.close()  # twice is no mistake
    assert left() == before == (set(), 0)


def test_no_more_connections_than_allowed(split, server):
    at_once, most, lock = 0, 0, threading.Lock()

    def count(request):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.002)
        with lock:
            at_once -= 1

    server.fault = count
    patient = replace(QUICK, answer_s=60, total_s=60)  # nine of twelve threads wait for the others
    with connect(server.url, split, connections=3, patience=patient) as records, ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda first: records.read(first, split.room(1)), range(60)))
    assert 1 < most <= 3


def test_closing_ends_a_read_that_the_server_keeps_waiting(split, server):
    server.fault = lambda request: "stall"
    records = connect(server.url, split, verify_sizes=False, patience=RetryPolicy(answer_s=60, total_s=60))
    failures = []

    def read():
        try:
            records.read(0, split.room(2))
        except DataError as error:
            failures.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    while not records._files._busy:
        assert thread.is_alive()
    records.close()
    thread.join(120)
    assert not thread.is_alive()
    assert re.search("reading was stopped", failures[0])


def test_what_is_a_url():
    assert is_url("s3://bucket/x")
    assert is_url("memory://x")
    assert not is_url("/data/x")
    assert not is_url("data")
