"""Parts of files behind s3://, read over plain HTTP with signed URLs.

The packages for S3 find the credentials, sign, list and explain failures. Their way of receiving takes several
times the processor time of plain HTTP for the same bytes, under the interpreter's lock: it is used only where a
signed URL is refused.
"""

import os
import threading
import time

from shards.reading.remote.failures import is_transient
from shards.reading.remote.fsspec_files import FsspecFiles
from shards.reading.remote.http_files import HttpFiles

VALID_S = 3600
RENEW_S = 1800  # a signature is used no longer than this
REFUSALS = 3  # in a row, then no more URLs are signed


class S3Files(FsspecFiles):
    """Files of a folder of a bucket. Any number of threads may use it."""

    def __init__(self, url: str, shown: str, answer_s: float, connections: int):
        super().__init__(url, shown, answer_s, connections)
        self._files.retries = 1  # retrying is done above
        self._answer_s, self._connections = answer_s, connections
        self._lock = threading.Lock()
        self._http: HttpFiles | None = None
        self._signed: dict[str, tuple[str, float]] = {}  # URL of a file, and until when it is used
        self._refused = 0

    def read(self, name: str, offset: int, out: memoryview, limit_s: float) -> None:
        """Fill ``out`` with the bytes of a file from ``offset`` on."""
        if self._refused < REFUSALS:
            url = self._url(name, limit_s)
            try:
                self._client(url).read_url(url, offset, out, limit_s)
                self._refused = 0
                return
            except Exception as error:
                if is_transient(error):
                    raise
            # Expired, or not allowed here: the usual way works, or knows what is wrong.
            self._refused += 1
            self._signed.pop(name, None)
        super().read(name, offset, out, limit_s)

    def close(self) -> None:
        """Close the connections and end the thread; reads that are under way fail."""
        http = getattr(self, "_http", None)
        if http:
            http.close()
        super().close()

    def _url(self, name: str, limit_s: float) -> str:
        url, until = self._signed.get(name, ("", 0.0))
        if time.monotonic() >= until:
            url = self._call("url", limit_s, f"{self._folder}/{name}", expires=VALID_S)
            self._signed[name] = url, time.monotonic() + RENEW_S
        return url

    def _client(self, url: str) -> HttpFiles:
        with self._lock:
            if self._http is None:
                authorities = os.environ.get("AWS_CA_BUNDLE")
                self._http = HttpFiles(url, self._answer_s, self._connections, authorities)
            return self._http
