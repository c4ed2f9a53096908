"""Requests to stop by signals and by the file STOP."""

import signal

import pytest

from train.process.stop_requests import StopRequest

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def request_of(tmp_path):
    """request_of(lines) -> a StopRequest that adds its messages to `lines`; handlers are restored afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield lambda lines: StopRequest(tmp_path / "STOP", look_for_file=True, tell=lines.append)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_only_a_keyboard_interrupt_mentions_the_keyboard(number, request_of):
    lines = []
    stop = request_of(lines)
    assert not stop()
    signal.raise_signal(number)
    assert stop()
    assert stop.reason == number.name
    assert lines[0].startswith(f"{number.name}: saving at the end of this step")
    assert ("Ctrl-C" in lines[0]) == (number == signal.SIGINT)
    signal.raise_signal(number)  # the launcher's copy of the same signal
    assert len(lines) == 1


def test_the_file_requests_a_stop(request_of):
    stop = request_of([])
    assert not stop()
    stop.file.touch()
    assert stop()
    assert stop.reason == "STOP"
