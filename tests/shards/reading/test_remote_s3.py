"""The S3 path against moto's server, with faults put between it and the client."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import boto3
import numpy as np
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from range_server import RangeServer
from remote_split import QUICK, RemoteSplit
from werkzeug.serving import WSGIRequestHandler, make_server

from shards.errors import DataError
from shards.reading.remote.records import RemoteRecords, read_manifest
from shards.verify import verify

URL = "s3://recordings/set"
# The first use of a client reads its service's description, which takes a while.
PATIENT = replace(QUICK, answer_s=10, total_s=30)
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class FaultyS3:
    """moto's S3, with ``fault(number of the request for an object)`` between it and the client.

    "slow": 503 SlowDown; "broken": 500; "cut": the connection ends in the middle of the content.
    """

    def __init__(self):
        self.app = DomainDispatcherApplication(create_backend_app)
        self.fault = lambda number: None
        self.numbers = itertools.count()
        self.listings = 0
        self.ways = []  # how records were asked for
        handler = type("Quiet", (WSGIRequestHandler,), {"log": lambda *_: None})
        self.server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=handler)
        self.url = f"http://127.0.0.1:{self.server.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def __call__(self, environ, start_response):
        listing = "list-type" in environ["QUERY_STRING"]
        if environ["REQUEST_METHOD"] == "GET" and "HTTP_RANGE" in environ:
            self.ways.append("signed" if "X-Amz-Signature" in environ["QUERY_STRING"] else "usual")
        self.listings += listing
        fault = None
        if environ["REQUEST_METHOD"] == "GET" and not listing:
            fault = self.fault(next(self.numbers))
        if fault == "slow":
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [SLOW_DOWN]
        if fault == "broken":
            start_response("500 Internal Server Error", [])
            return [b""]
        content = self.app(environ, start_response)
        if fault == "cut":
            whole = b"".join(content)
            return [whole[: len(whole) // 2]]
        return content

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(120)


@pytest.fixture(scope="module")
def split(data_dir) -> RemoteSplit:
    return RemoteSplit.of(data_dir)


@pytest.fixture(scope="module")
def s3(split):
    with pytest.MonkeyPatch.context() as patch:
        server = FaultyS3()
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secretsecret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/nowhere")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        client = boto3.client("s3")
        client.create_bucket(Bucket="recordings")
        for file in split.folder.iterdir():
            client.put_object(Bucket="recordings", Key=f"set/{file.name}", Body=file.read_bytes())
        server.client = client
        yield server
        server.close()


@pytest.fixture(autouse=True)
def sound(s3):
    """Each test begins with a server without faults."""
    s3.fault = lambda number: None
    s3.listings = 0
    s3.ways.clear()


def connect(split: RemoteSplit, url: str = URL, **options) -> RemoteRecords:
    return RemoteRecords(url, split.rows, split.shape, **{"patience": PATIENT, **options})


def failure(split: RemoteSplit, url: str = URL, **options) -> str:
    with pytest.raises(DataError) as caught, connect(split, url, **options) as records:
        records.read(0, split.room(2))
    assert "\n" not in str(caught.value)
    assert "secretsecret" not in str(caught.value)
    return str(caught.value)


def test_the_records_are_those_of_the_disk(split, s3):
    with connect(split) as records:
        assert s3.listings == 1  # all sizes at once
        out = split.room()
        records.read(0, out)
        assert np.array_equal(out, split.records)
    assert set(s3.ways) == {"signed"}
    assert read_manifest(URL, PATIENT) == (split.folder / "dataset.json").read_bytes()


@pytest.mark.parametrize("fault", ["slow", "broken", "cut"])
def test_a_failure_that_passes_is_not_seen(split, s3, fault):
    first = next(s3.numbers)
    s3.fault = lambda number: fault if (number - first) % 2 else None
    with connect(split) as records:
        out = split.room()
        records.read(0, out)
        assert np.array_equal(out, split.records)
        assert records.retries >= sum(row.chunks > 0 for row in split.rows)


def test_many_threads_over_a_flaky_store(split, s3):
    kinds = ["slow", "cut", None, None]
    s3.fault = lambda number: kinds[number % len(kinds)]
    with connect(split, connections=4) as records:

        def work(seed: int) -> bool:
            rng = np.random.default_rng(seed)
            first = int(rng.integers(len(split.records)))
            out = split.room(int(rng.integers(1, 1 + min(40, len(split.records) - first))))
            records.read(first, out)
            return np.array_equal(out, split.records[first : first + len(out)])

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(40)))


@pytest.mark.parametrize("fault", ["slow", "cut"])
def test_a_failure_that_stays_ends_in_one_line(split, s3, fault):
    s3.fault = lambda number: fault
    with connect(split, patience=replace(PATIENT, total_s=10)) as records:  # sizes are listed in that time, too
        with pytest.raises(DataError, match=r"after \d+ tries in .* s\. Is the server reachable") as caught:
            records.read(0, split.room(2))
        assert f"shard {URL}/{split.rows[0].file}: " in str(caught.value)


@pytest.mark.parametrize("verify_sizes", [True, False])
def test_a_missing_bucket_or_folder_is_named_at_once(split, s3, verify_sizes):
    text = failure(split, "s3://nobody/set", verify_sizes=verify_sizes)
    assert "s3://nobody/set" in text
    assert "bucket does not exist" in text
    assert "s3://recordings/other" in failure(split, "s3://recordings/other", verify_sizes=verify_sizes)
    with pytest.raises(DataError, match=r"other/dataset\.json: there is no such file.*Check the URL"):
        read_manifest("s3://recordings/other", PATIENT)


def test_a_missing_or_changed_shard_is_named(split, s3):
    for key, body, words in [
        (split.rows[1].file, None, "is missing: copy it there again"),
        (split.rows[1].file, b"short", "has 5 bytes, the manifest says"),
    ]:
        content = (split.folder / key).read_bytes()
        if body is None:
            s3.client.delete_object(Bucket="recordings", Key=f"set/{key}")
        else:
            s3.client.put_object(Bucket="recordings", Key=f"set/{key}", Body=body)
        try:
            assert f"{key} {words}" in failure(split)
        finally:
            s3.client.put_object(Bucket="recordings", Key=f"set/{key}", Body=content)


def test_missing_credentials_say_where_they_come_from(split, s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for verify_sizes in (True, False):
        text = failure(split, verify_sizes=verify_sizes)
        assert "there are no valid credentials" in text
        assert "Set AWS_PROFILE" in text
    monkeypatch.setenv("FSSPEC_S3_ANON", "true")  # what the message proposes


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "AccessDenied"])
def test_refused_credentials_end_at_once(split, s3, monkeypatch, code):
    def refuse(environ, start_response):
        start_response("403 Forbidden", [("Content-Type", "application/xml")])
        text = f"<Error><Code>{code}</Code><Message>You may not, {code}.</Message></Error>"
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else text.encode()]

    monkeypatch.setattr(s3, "app", refuse)
    for verify_sizes in (True, False):
        text = failure(split, verify_sizes=verify_sizes)
        assert "HTTP 403 Forbidden" in text
        assert "Set AWS_PROFILE" in text


def test_a_folder_that_may_be_read_but_not_listed_works(split, s3, monkeypatch):
    app = s3.app

    def refuse_listing(environ, start_response):
        if "list-type" not in environ["QUERY_STRING"]:
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "application/xml")])
        return [b"<Error><Code>AccessDenied</Code><Message>No listing.</Message></Error>"]

    monkeypatch.setattr(s3, "app", refuse_listing)
    with connect(split) as records:
        out = split.room(3)
        records.read(0, out)
        assert np.array_equal(out, split.records[:3])
    assert s3.listings == 1


@pytest.mark.parametrize("kind", ["expired once", "never allowed"])
def test_a_store_that_refuses_signed_urls_is_read_the_usual_way(split, s3, monkeypatch, kind):
    app, refused = s3.app, []

    def refuse_signed(environ, start_response):
        if "X-Amz-Signature" not in environ["QUERY_STRING"] or (kind == "expired once" and refused):
            return app(environ, start_response)
        refused.append(environ["PATH_INFO"])
        start_response("403 Forbidden", [("Content-Type", "application/xml")])
        return [b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"]

    monkeypatch.setattr(s3, "app", refuse_signed)
    with connect(split) as records:
        for first in range(10):
            out = split.room(1)
            records.read(first, out)
            assert np.array_equal(out, split.records[first : first + 1])
        assert records.retries == 0
    # Ten records, after the first and the last one of their shard.
    if kind == "expired once":
        assert s3.ways == ["signed", "usual", *["signed"] * 11]
    else:
        assert s3.ways == ["signed", "usual"] * 3 + ["usual"] * 9


def test_a_set_in_a_bucket_is_verified(s3, capsys):
    verify(URL)
    assert f"{URL}: " in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["hang", "drop", 503])
def test_a_store_that_does_not_answer_ends_in_one_line(split, s3, monkeypatch, tmp_path, fault):
    with RangeServer(tmp_path, lambda request: fault) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        text = failure(split, patience=replace(QUICK, answer_s=1.5, total_s=15))
    assert "tries in" in text


def test_nothing_is_left_when_it_is_closed(split, s3):
    before = {*threading.enumerate()}  # a call of another test that took too long may still wait for its server
    with connect(split) as records:
        records.read(0, split.room(2))
        assert any(thread.name == "remote" for thread in threading.enumerate())
    left = {*threading.enumerate()} - before
    assert not any(thread.name.startswith(("remote", "asyncio")) for thread in left)
