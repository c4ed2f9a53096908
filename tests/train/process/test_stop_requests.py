"""Requests to stop by signals, by the file STOP and by other processes."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from train.process.stop_requests import ELSEWHERE, SIGNALS, WAKE, StopNowError, StopRequest, requests


class Others:
    """The notice of a run with other processes."""

    def __init__(self) -> None:
        self.told = self.asked = False

    def post(self) -> None:
        self.told = True

    def posted(self) -> bool:
        return self.asked


def wait_for(condition) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def lines():
    return []


@pytest.fixture
def stop(tmp_path, lines):
    """A StopRequest that adds its messages to `lines`; handlers are restored afterwards."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, WAKE)}
    request = StopRequest(tmp_path / "STOP", is_main=True, tell=lines.append)
    yield request
    request.close()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_only_a_keyboard_interrupt_mentions_the_keyboard(number, stop, lines):
    assert not stop()
    signal.raise_signal(number)
    assert stop()
    assert stop.reason == number.name
    wait_for(lambda: lines)
    assert lines[0].startswith(f"{number.name}: saving at the end of this step")
    assert ("Ctrl-C" in lines[0]) == (number == signal.SIGINT)
    signal.raise_signal(number)  # the launcher's copy of the same signal
    assert len(lines) == 1


def test_with_more_than_a_thousand_open_files(tmp_path, lines):
    """select() refuses their numbers, and a thread that it ends would leave all requests unanswered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    opened = [os.dup(0) for _ in range(1100)]
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS, WAKE)}
    try:
        stop = StopRequest(tmp_path / "STOP", is_main=True, tell=lines.append)
        stop.file.touch()
        wait_for(lambda: lines)
        stop.close()
    finally:
        for descriptor in opened:
            os.close(descriptor)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert lines[0].startswith("STOP: saving")


def test_the_file_requests_a_stop(stop):
    assert not stop()
    stop.file.touch()
    assert stop()
    assert stop.reason == "STOP"


def test_a_file_of_an_earlier_attempt_does_not(tmp_path):
    (tmp_path / "STOP").touch()
    os.utime(tmp_path / "STOP", (1e9, 1e9))
    code = (
        "import sys, pathlib; from train.process.stop_requests import StopRequest\n"
        "stop = StopRequest(pathlib.Path(sys.argv[1]), True)\n"
        "first = stop(); stop.file.touch(); print(first, stop())"
    )
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "STOP"], capture_output=True, text=True, check=True)
    assert said.stdout == "False True\n"


def test_interruptible_work_ends_although_its_first_signal_is_lost(stop, monkeypatch):
    """A signal that comes just before a system call begins does not interrupt it."""
    send, sent = signal.pthread_kill, []

    def lose_the_first(thread, number):
        sent.append(number)
        if len(sent) > 1:
            send(thread, number)

    def work():
        with stop.interruptible():
            stop.file.touch()
            time.sleep(60)

    monkeypatch.setattr(signal, "pthread_kill", lose_the_first)
    began = time.monotonic()
    with pytest.raises(StopNowError):
        work()
    assert time.monotonic() - began < 20
    assert len(sent) >= 2


def test_the_keyboard_is_a_better_reason_than_the_launcher_that_it_ends():
    assert requests(bytes([signal.SIGTERM, WAKE, signal.SIGINT])) == ["SIGINT", "SIGTERM"]
    assert requests(bytes([signal.SIGTERM, signal.SIGHUP])) == ["SIGHUP", "SIGTERM"]
    assert requests(bytes([WAKE])) == requests(b"") == []


@pytest.mark.parametrize("ask", ["signal", "file", "another process"])
def test_interruptible_work_ends_at_once(ask, stop):
    stop.notice = others = Others()
    began = time.monotonic()

    def request():
        if ask == "signal":
            signal.raise_signal(signal.SIGTERM)
        elif ask == "file":
            stop.file.touch()
        else:
            others.asked = True

    def work():
        with stop.interruptible():
            request()
            time.sleep(60)

    with pytest.raises(StopNowError):
        work()
    assert time.monotonic() - began < 20
    assert stop.reason == {"signal": "SIGTERM", "file": "STOP", "another process": ELSEWHERE}[ask]
    assert others.told == (ask != "another process")
    with pytest.raises(StopNowError), stop.interruptible():
        pass
