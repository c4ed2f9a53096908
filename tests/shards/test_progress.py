import re

import pytest

from shards import progress as progress_module
from shards.progress import audio_speed, progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is told to go on."""
    now = [1000.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_in_a_log(clock, capsys):
    with progress("building", 36_000.0, audio_speed) as update:
        for step in range(1, 41):
            clock[0] += 1
            update(600.0 * step)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == "building: 2 %, 0.2 of 10.0 h of audio, 600 x real time, 0:00:59 left"
    assert lines[-1] == "building: 52 %, 5.2 of 10.0 h of audio, 600 x real time, 0:00:29 left"


def test_the_estimate_follows_the_last_minute(clock, capsys):
    with progress("building", 100_000.0) as update:
        update(50_000.0)  # taken over from an earlier attempt
        for step in range(200):
            clock[0] += 1
            update(50_000.0 + 10 * step)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "building: 52 %, 1:20:10 left"


def test_nothing_is_said_of_short_work(clock, capsys):
    with progress("building", 10.0) as update:
        clock[0] += 0.5
        update(5.0)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(clock, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress_module.sys.stderr, "isatty", lambda: True)
    with progress("building", 36_000.0, audio_speed) as update:
        clock[0] += 10
        update(18_000.0)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "building" in shown
    assert "50%" in shown
    assert "5.0 of 10.0 h of audio, 1,800 x real time" in shown
