"""Runs `python -m MODULE` in a fork of one process that has already imported torch: most of a tiny run is imports.

The module is executed from its file, with the arguments, environment, folder, streams and exit of a process of its
own. What depends on the start of the interpreter (its options, `LD_PRELOAD`, the seed of hashes, threads of OpenMP, how
long imports take) needs a real start.

A command that starts Python itself, such as a launcher or a shell, gets forks by `tests/forked/python`: it asks for a
fork, passes signals on and ends as the fork ends. Tests that look at processes, such as those that kill a launcher,
need real starts.
"""

import atexit
import itertools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FORKED = ROOT / "tests" / "forked"  # programs that ask for forks
REQUEST_S = 60.0  # the longest that a request may take to arrive
# W&B imports the last one when a run begins, which takes seconds after all the others.
LIBRARIES = [
    "torch",
    "torch._dynamo",
    "torch.distributed.run",
    "accelerate",
    "scipy.signal",
    "soundfile",
    "jsonargparse",
    "rich.console",
    "wandb.sdk.launch.inputs.internal",
]
OURS = ["audiovae.models.families", "train.cli.parser", "train.training.attempt", "train.evaluation.drawing.pictures"]
OURS += ["train.evaluation.evaluate", "train.evaluation.compare"]


class Process:
    """A started command, with what tests use of subprocess.Popen. Its streams, if it has pipes, are read as text."""

    def __init__(self, server: "Server", number: int, pid: int, streams: Sequence[int]) -> None:
        self.pid = pid
        self._number = number
        self.returncode: int | None = None
        self._server = server
        if streams:
            self.stdout, self.stderr = (os.fdopen(stream, encoding="utf-8", errors="replace") for stream in streams)

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Until it ends. Raises subprocess.TimeoutExpired."""
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(["preloaded", str(self.pid)], timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Reads both streams until they are closed, and waits for the end."""
        texts = ["", ""]

        def read(place: int, stream: Any) -> None:
            with suppress(ValueError):  # it was closed by an earlier call
                texts[place] = stream.read()
                stream.close()

        readers = [
            threading.Thread(target=read, args=one, daemon=True) for one in enumerate((self.stdout, self.stderr))
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(["preloaded", str(self.pid)], timeout or 0)
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.status_of(self._number, timeout)
        return self.returncode


class Server:
    """The process with the imports, and the connection to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # Its path must be short.
        self._folder = tempfile.TemporaryDirectory(prefix="forks-")
        self.address = f"{self._folder.name}/socket"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.address)
        listener.listen(64)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), str(listener.fileno()), f"{self._folder.name}/media"],
            pass_fds=[theirs.fileno(), listener.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        theirs.close()
        listener.close()
        self._socket = ours
        self._lines = ours.makefile("r")
        self._ended: dict[int, int] = {}
        self._news = threading.Condition()
        # By the number of the request: the system gives a number of a process again, after some 30,000 processes.
        self._started: dict[int, int] = {}
        self._numbers = itertools.count()
        self._gone = False
        threading.Thread(target=self._listen, daemon=True).start()
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        """That of the process with the imports."""
        return self._process.pid

    def start(
        self, module: str, words: list[str], environment: Mapping[str, str], session: bool, terminal: int | None
    ) -> Process:
        """`python -m MODULE WORDS` in the root of the repository."""
        if terminal is None:
            (out, out_end), (err, err_end) = os.pipe(), os.pipe()
            own: tuple[int, ...] = (out, err)
        else:
            out_end, err_end, own = os.dup(terminal), os.dup(terminal), ()
        request = {"module": module, "words": words, "environment": dict(environment), "session": session}
        with self._news:
            number = request["number"] = next(self._numbers)
            content = json.dumps(request).encode()
            socket.send_fds(self._socket, [len(content).to_bytes(8, "big")], [out_end, err_end])
            self._socket.sendall(content)
            os.close(out_end)
            os.close(err_end)
            self._news.wait_for(lambda: number in self._started or self._gone)
            assert number in self._started, "the process with the imports has ended"
            return Process(self, number, self._started[number], own)

    def status_of(self, number: int, timeout: float | None) -> int | None:
        """Exit status of the process of a request, waiting up to `timeout` seconds (None: for ever) for its end."""
        with self._news:
            self._news.wait_for(lambda: number in self._ended or self._gone, timeout)
            assert number in self._ended or not self._gone, "the process with the imports has ended"
            return self._ended.get(number)

    def close(self) -> None:
        """Ends the process with the imports."""
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _listen(self) -> None:
        for line in self._lines:
            with self._news:
                news = json.loads(line)
                if "started" in news:
                    self._started[news["number"]] = news["started"]
                else:
                    self._ended[news["number"]] = news["status"]
                self._news.notify_all()
        with self._news:
            self._gone = True
            self._news.notify_all()


@cache
def server() -> Server:
    """That of this worker."""
    return Server()


def start(
    module: str,
    words: list[str],
    environment: Mapping[str, str],
    session: bool = False,
    terminal: int | None = None,
) -> Process:
    """Starts `python -m MODULE WORDS` in the root of the repository; its standard input is empty.

    Its output goes to pipes, or to the open `terminal`.
    """
    return server().start(module, words, environment, session, terminal)


def with_forks(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which `python`, `accelerate` and what a launcher starts are forks of this worker's server."""
    path = f"{FORKED}:{environment.get('PATH', os.defpath)}"
    # torchrun starts its processes with PYTHON_EXEC.
    found = {**environment, "PATH": path, "PYTHON_EXEC": str(FORKED / "python")}
    return {**found, "AUDIO_TEST_FORKS": server().address, "AUDIO_TEST_PYTHON": sys.executable}


def _serve(connection: socket.socket, listener: socket.socket) -> Callable[[], None]:
    """Forks for each request. In a child it returns what the child has to do; the parent ends here."""
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    forks: dict[socket.socket, int] = {}  # of the programs that have connected; 0 without a fork

    def forget(client: socket.socket) -> None:
        """Ends the fork of a program that is gone."""
        if pid := forks.pop(client):
            os.kill(pid, signal.SIGKILL)
        selector.unregister(client)
        client.close()

    while True:
        for key, _ in selector.select():
            asking = key.fileobj
            if asking is listener:
                client, _ = listener.accept()
                client.settimeout(REQUEST_S)
                forks[client] = 0
                selector.register(client, selectors.EVENT_READ)
                continue
            if isinstance(asking, int):  # a fork has ended
                number, pid, client = key.data
                _, status = os.waitpid(pid, 0)
                selector.unregister(asking)
                os.close(asking)
                if client is connection or client in forks:
                    with suppress(OSError):
                        _send(client, number=number, status=os.waitstatus_to_exitcode(status))
                if client in forks:
                    forks[client] = 0
                    forget(client)
                continue
            assert isinstance(asking, socket.socket)
            if asking is not connection and asking not in forks:  # forgotten in this round
                continue
            try:
                asked, streams = _receive(asking)
            except OSError:
                if asking is connection:
                    os._exit(0)
                forget(asking)
                continue
            if (pid := os.fork()) == 0:
                selector.close()
                for open_socket in (connection, listener, *forks):
                    open_socket.close()
                return lambda: _become(asked, streams)
            for stream in streams:
                os.close(stream)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (asked["number"], pid, asking))
            if asking is not connection:
                forks[asking] = pid
            with suppress(OSError):  # a program that is gone is forgotten when its end is read
                _send(asking, number=asked["number"], started=pid)


def _receive(asking: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request and its streams; raises OSError where the other end is gone or sends only a part."""
    size, streams, _, _ = socket.recv_fds(asking, 8, 3)
    content = b""
    while len(size) == 8 and len(content) < int.from_bytes(size, "big"):
        part = asking.recv(int.from_bytes(size, "big") - len(content))
        if not part:
            break
        content += part
    if len(size) < 8 or len(content) < int.from_bytes(size, "big"):
        for stream in streams:
            os.close(stream)
        raise ConnectionError("the other end is gone")
    return json.loads(content), streams


def _send(connection: socket.socket, **news: int) -> None:
    connection.sendall(json.dumps(news).encode() + b"\n")


def _become(request: dict[str, Any], streams: list[int]) -> None:
    if request["session"]:
        os.setsid()
    for number, stream in enumerate(streams, 3 - len(streams)):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it would be ignored where the tests run under nohup
    for number in request.get("ignored", []):
        signal.signal(number, signal.SIG_IGN)
    if request.get("unbuffered"):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if folder := request.get("folder"):
        os.chdir(folder)
        sys.path[0] = folder
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [request["module"], *request["words"]]
    import runpy

    import torch

    if threads := os.environ.get("OMP_NUM_THREADS"):  # OpenMP has read it when it was loaded
        torch.set_num_threads(int(threads))
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _share_media(folder: str) -> None:
    """Gives W&B a folder for media that forks share; the one of its import would go with the first fork that ends."""
    from wandb.sdk.data_types._private import MEDIA_TMP

    atexit.unregister(MEDIA_TMP.cleanup)
    MEDIA_TMP.cleanup()
    os.mkdir(folder)
    MEDIA_TMP.name = folder  # files in it have random names


def _fill_caches() -> None:
    """Computes what is the same in each command: descriptions of settings, and compiled templates of reports.

    No arithmetic: a process whose OpenMP has threads must not fork.
    """
    from train.cli.parser import make_parser
    from train.evaluation.report.rendering import environment

    make_parser()
    for page in ("run.html", "comparison.html", "generation.html"):
        environment().get_template(page)


if __name__ == "__main__":
    import gc
    import importlib

    for name in [*LIBRARIES, *OURS]:
        importlib.import_module(name)
    _share_media(sys.argv[3])
    _fill_caches()
    gc.freeze()
    sys.path[0] = str(ROOT)
    _serve(*(socket.socket(fileno=int(number)) for number in sys.argv[1:3]))()
