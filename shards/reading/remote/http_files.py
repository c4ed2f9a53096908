"""Parts of files behind http:// and https://, received straight into the caller's memory.

Not through fsspec: its one event loop takes twice the processor time for the same bytes, all of it under the
interpreter's lock, and it downloads the whole file where a server ignores ranges.
"""

import contextlib
import re
import threading
import time
import urllib.request
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import urllib3

from shards.reading.remote.failures import WEB_PAGE, PermanentError, StatusError, TransientError
from shards.reading.remote.limits import too_long, within
from shards.reading.remote.redirects import REDIRECTS, redirected

PIECE = 256 * 1024  # bytes taken from a connection at once

_NO_RANGES = (
    "the server ignores range requests and would send the whole file each time. Use a server that has them, "
    "or copy the data folder to a disk"
)


class HttpFiles:
    """Files of a folder on an HTTP server. Any number of threads may use it.

    The query of the folder's URL, such as a signature, goes with every request; a user name and password become
    an Authorization header. Proxies come from the environment. ``authorities`` is a file of certificates that are
    trusted instead of the system's. Requests raise failures of all kinds, none of which is meant for people.
    """

    def __init__(self, url: str, answer_s: float, connections: int, authorities: str | None = None):
        parts = urlsplit(url)
        user, _, host = parts.netloc.rpartition("@")
        self._parts, self._answer_s = parts._replace(netloc=host, fragment=""), answer_s
        self._headers = {"Accept-Encoding": "identity"}
        if user:
            self._headers |= urllib3.util.make_headers(basic_auth=unquote(user))
        options: dict[str, Any] = {"maxsize": connections, "block": True, "ca_certs": authorities}
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            login = urlsplit(proxy).netloc.rpartition("@")[0]
            headers = urllib3.util.make_headers(proxy_basic_auth=unquote(login)) if login else None
            self._pool: urllib3.PoolManager = urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
        else:
            self._pool = urllib3.PoolManager(**options)
        self._lock = threading.Lock()
        self._busy: set[urllib3.BaseHTTPResponse] = set()

    def listing(self, limit_s: float) -> None:
        """Sizes of all files of the folder: HTTP has no such thing."""

    def size(self, name: str, limit_s: float) -> int | None:
        """Size of a file, None when the server does not say."""
        deadline = time.monotonic() + limit_s

        def ask() -> int | None:
            with self._answer(self._url(name), limit_s, 0, 1) as response:
                _fill(response, memoryview(bytearray(1)), deadline)
                return _range(response)[1]

        return within(limit_s, ask)

    def read(self, name: str, offset: int, out: memoryview, limit_s: float) -> None:
        """Fill ``out`` with the bytes of a file from ``offset`` on."""
        self.read_url(self._url(name), offset, out, limit_s)

    def read_url(self, url: str, offset: int, out: memoryview, limit_s: float) -> None:
        """The same for a whole URL."""
        deadline = time.monotonic() + limit_s
        with self._answer(url, limit_s, offset, offset + len(out)) as response:
            _fill(response, out, deadline)

    def whole(self, name: str, limit_s: float, most: int) -> bytes:
        """All bytes of a file; a longer answer than ``most`` bytes ends with PermanentError."""
        deadline = time.monotonic() + limit_s

        def receive() -> bytes:
            content = bytearray()
            with self._answer(self._url(name), limit_s) as response:
                while piece := response.read1(PIECE):
                    content += piece
                    if len(content) > most:
                        raise PermanentError(too_long(most))
                    _check(deadline)
            return bytes(content)

        # Apart, because a server may also send its headers too slowly, byte by byte.
        return within(limit_s, receive)

    def close(self) -> None:
        """Close the connections; reads that are under way fail."""
        with self._lock:
            for key in self._pool.pools.keys():  # noqa: SIM118, it cannot be iterated
                self._pool.pools[key].close()
            for response in self._busy:
                with contextlib.suppress(Exception):  # it may just have ended
                    response.shutdown()

    def _url(self, name: str) -> str:
        return urlunsplit(self._parts._replace(path=f"{self._parts.path.rstrip('/')}/{quote(name)}"))

    def _request(self, url: str, limit_s: float, more: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The first answer that is no redirect; a redirect is followed where `redirected` allows it."""
        wait = min(self._answer_s, limit_s)
        headers = self._headers | more
        for _ in range(REDIRECTS + 1):
            response = self._pool.request(
                "GET",
                url,
                headers=headers,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=wait, read=wait),
                pool_timeout=limit_s,
                retries=False,
                redirect=False,
            )
            target = response.get_redirect_location()
            if not target:
                return response
            response.close()
            response.release_conn()
            before, url = url, redirected(url, target)
            if urlsplit(before).netloc != urlsplit(url).netloc:
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        raise PermanentError(f"the server redirects more than {REDIRECTS} times. Use the last URL of them")

    @contextlib.contextmanager
    def _answer(self, url: str, limit_s: float, begin: int = 0, end: int | None = None):
        """The answer to a request for a file or a range of it, its content still to be read."""
        response = self._request(url, limit_s, {} if end is None else {"Range": f"bytes={begin}-{end - 1}"})
        with self._lock:
            self._busy.add(response)
        try:
            _check_answer(response, begin, end)
            yield response
        finally:
            with self._lock:
                self._busy.discard(response)
            if response.length_remaining == 0:
                response.drain_conn()  # marks the answer as read: its connection takes no other request before
            else:
                response.close()  # what is left of the content would be taken for the next answer
            response.release_conn()


def _check_answer(response: urllib3.BaseHTTPResponse, begin: int, end: int | None) -> None:
    if response.status == 416 and end is not None:
        present = response.headers.get("Content-Range", "").rpartition("/")[2]
        raise PermanentError(f"it has {present or 'fewer'} bytes, none from byte {begin} on. Copy it there again")
    if response.status not in (200, 206):
        after = response.headers.get("Retry-After", "")
        raise StatusError(response.status, float(after) if re.fullmatch(r"\d{1,6}", after) else 0)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise PermanentError("the server compresses its answers. Switch that off for .tar files")
    if end is None:
        return
    if response.status != 206:
        is_page = response.headers.get("Content-Type", "").lower().startswith("text/html")
        raise PermanentError(WEB_PAGE if is_page else _NO_RANGES)
    got, size = _range(response)
    if got[0] != begin or got[1] > end:
        raise PermanentError(f"the server answers bytes {begin}-{end - 1} with bytes {got[0]}-{got[1] - 1}")
    if got[1] < end and got[1] == size:
        raise PermanentError(f"it has {size} bytes, {end} or more were expected. Copy it there again")
    if got[1] < end:
        raise TransientError(f"only {got[1] - begin} of {end - begin} bytes came")


def _range(response: urllib3.BaseHTTPResponse) -> tuple[tuple[int, int], int | None]:
    """First byte of the answer's content, the one behind its last, and the size of the file where it is said."""
    text = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", text.strip())
    if found is None:
        raise PermanentError(f"the server says no usable Content-Range ({text[:60]!r}). Use another server")
    size = None if found[3] == "*" else int(found[3])
    return (int(found[1]), int(found[2]) + 1), size


def _fill(response: urllib3.BaseHTTPResponse, out: memoryview, deadline: float) -> None:
    done = 0
    while done < len(out):
        piece = response.read1(min(PIECE, len(out) - done))
        if not piece:
            raise TransientError(f"the connection ended after {done} of {len(out)} bytes")
        out[done : done + len(piece)] = piece
        done += len(piece)
        _check(deadline)


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError
