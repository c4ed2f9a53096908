"""A real HTTP server of a folder, with range requests, and with faults on demand."""

import os
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    number: int  # counted from 0
    path: str
    query: str
    begin: int | None  # of the range
    end: int | None  # one behind its last byte
    headers: dict[str, str]  # by names in small letters


# What a fault may be:
#   an int    that status, without the content
#   "drop"    the connection is closed before an answer
#   "cut"     it is closed in the middle of the content
#   "short"   an honest answer with fewer bytes than were asked for
#   "flip"    the content with one byte changed
#   "hang"    nothing, until the server closes
#   "stall"   half of the content, then nothing
#   "drip"    a byte now and then
#   "whole"   the whole file, as by a server that knows no ranges
#   "shifted" other bytes than were asked for
#   "gzip"    the answer says that it is compressed
#   "login"   a web page instead of any file, as by a gateway that asks for a password
#   "moved"   a redirection to the same file with the query "moved"
#   "to URL"  a redirection to the same file below another URL, or to the URL itself where it ends with "!"
Fault = str | int | None


class RangeServer:
    """Serves ``folder`` at ``url`` from threads until it is closed. Use it as a context manager."""

    def __init__(
        self,
        folder: Path,
        fault: Callable[[Request], Fault] = lambda request: None,
        latency_s: float = 0,
        certificate: Path | None = None,  # with its key: then it speaks https
    ):
        self.folder, self.fault, self.latency_s = folder, fault, latency_s
        self.requests: list[Request] = []
        self.connections = 0
        self.closing = threading.Event()
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            listening = self._server.socket
            self._server.socket = context.wrap_socket(listening, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> "RangeServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(120)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: RangeServer

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with self.owner.lock:
            self.owner.connections += 1
        try:
            super().handle()
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True

    def do_GET(self) -> None:
        owner = self.owner
        target = urlsplit(self.path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        begin, end = (int(asked[1]), int(asked[2]) + 1) if asked else (None, None)
        with owner.lock:
            headers = {key.lower(): value for key, value in self.headers.items()}
            request = Request(len(owner.requests), unquote(target.path), target.query, begin, end, headers)
            owner.requests.append(request)
        if owner.latency_s:
            time.sleep(owner.latency_s)
        fault = owner.fault(request)
        path = owner.folder / request.path.lstrip("/")
        if isinstance(fault, int):
            self._head(fault, 0)
        elif fault == "drop":
            self.close_connection = True
        elif fault == "hang":
            owner.closing.wait()
            self.close_connection = True
        elif fault == "moved" and request.query != "moved":
            self._head(302, 0, {"Location": f"{target.path}?moved"})
        elif isinstance(fault, str) and fault.startswith("to "):
            place = fault[3:]
            self._head(302, 0, {"Location": place[:-1] if place.endswith("!") else f"{place}{target.path}"})
        elif fault == "login":
            page = b"<!DOCTYPE html>\n<html><body>Please log in.</body></html>"
            self._head(200, len(page), {"Content-Type": "text/html; charset=utf-8"})
            self.wfile.write(page)
        elif not path.is_file():
            self._head(404, 0)
        else:
            self._send(path, begin, end, fault)

    do_HEAD = do_GET  # noqa: N815

    def _send(self, path: Path, begin: int | None, end: int | None, fault: str | None) -> None:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if begin is None or fault == "whole":
                begin, end, status, extra = 0, size, 200, {}
            elif begin >= size:
                self._head(416, 0, {"Content-Range": f"bytes */{size}"})
                return
            else:
                end = min(end, size)
                end -= (end - begin) // 2 if fault == "short" else 0
                begin, end = (begin + 1, end + 1) if fault == "shifted" else (begin, end)
                status, extra = 206, {"Content-Range": f"bytes {begin}-{end - 1}/{size}"}
            extra |= {"Content-Encoding": "gzip"} if fault == "gzip" else {}
            self._head(status, end - begin, extra)
            if self.command == "HEAD":
                return
            if fault in ("cut", "stall", "drip", "flip"):
                file.seek(begin)
                self._spoil(bytearray(file.read(end - begin)), fault)
            else:
                self.connection.sendfile(file, begin, end - begin)

    def _spoil(self, content: bytearray, fault: str) -> None:
        if fault == "flip":
            content[600 % len(content)] ^= 1  # in the samples of the first record
            self.wfile.write(content)
            return
        self.close_connection = True
        if fault == "drip":
            for byte in content:
                self.wfile.write(bytes([byte]))
                if self.owner.closing.wait(0.05):
                    return
        self.wfile.write(content[: len(content) // 2])
        if fault == "stall":
            self.owner.closing.wait()

    def _head(self, status: int, length: int, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for key, value in (extra or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.flush()
