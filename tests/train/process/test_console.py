"""The display: lines in a log, a live view on a terminal, and terminals that stop or close do no harm."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from fcntl import ioctl
from struct import pack
from termios import TCOOFF, TIOCSWINSZ, tcflow

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import preloaded
from tests.train.conftest import BETWEEN_EVALUATIONS, ROOT, environment, flags, points
from train.process.console import Display, supports_live_view
from train.process.live_view import Progress, RunInfo, clock, render
from train.process.output_streams import BestEffortStream
from train.runs.checkpoint import all_checkpoints

SCALE = RunInfo("vae first", total=400, batch=8, chunk_s=0.5, epoch=100, save_every=50)
VALUES = {"loss/total": 1.5, "loss/mse": 0.25, "loss/stft": 3.0, "loss/kl": 0.125, "perf/data_wait_share": 0.02}
PLAIN = re.compile(r"vae first step 400/400  total 1\.5  mse 0\.25  stft 3  [\d.]+ steps/s  0\.0 min left\n")
LINES = 30


def heed_hangups() -> None:
    """Where the tests run under nohup, their children would ignore hangups too."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Terminal:
    """A pseudo terminal: collects what was drawn on it, or does not read it when `stalled`."""

    def __init__(self, stalled: bool = False) -> None:
        self.master, self.slave = pty.openpty()
        ioctl(self.master, TIOCSWINSZ, pack("HHHH", LINES, 110, 0, 0))
        self.drawn = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        if not stalled:
            self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                self.drawn += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # the last writer has closed it
                return

    def text(self) -> str:
        """What was drawn, without colours and movements."""
        return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self.drawn).replace("\r", "\n")

    def start(self, words: list[str], fresh: bool = False, **more: str) -> subprocess.Popen | preloaded.Process:
        """The real command on this terminal; a `fresh` one reads from it too."""
        surroundings = {k: v for k, v in environment(TERM="xterm", **more).items() if k not in ("CI", "NO_COLOR")}
        if not fresh:
            process = preloaded.start("train", words, surroundings | more, terminal=self.slave)
            os.close(self.slave)
            return process
        command = [sys.executable, "-m", "train", *words]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self.slave)
        process = subprocess.Popen(command, env=surroundings | more, cwd=ROOT, preexec_fn=heed_hangups, **streams)
        os.close(self.slave)
        return process


def test_a_live_view_on_a_terminal(data_dir, tmp_path):
    terminal = Terminal()
    process = terminal.start(flags("vae", data_dir, tmp_path / "run", "--checkpoint.every", "4"), fresh=True)
    assert process.wait(1000) == 0
    text = terminal.text()
    assert re.search(r"vae run .*step 8/8  100\.0 %  epoch \d\.\d\d", text)
    assert re.search(r"[\d.]+ steps/s, [\d.e+]+ h of audio per hour, [\d.]+ % of the time waiting for data", text)
    assert re.search(r"loss total [\d.e-]+  kl [\d.e-]+  levels [\d.e-]+  mse [\d.e-]+  stft [\d.e-]+", text)
    assert re.search(r"saved at step 8, 0:0\d ago", text)
    whole_lines = text.split("\n")
    assert any(line.startswith("step 4: held-out SI-SDR") for line in whole_lines)
    assert any(line.startswith("finished at step 8") for line in whole_lines)
    assert "min left" not in text
    # The view is left as it was last.
    assert re.search(r"finished at step 8.*step 8/8.*saved at step 8", text, re.DOTALL)


@pytest.mark.parametrize("setting", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"CI": "true"}])
def test_plain_lines_on_a_terminal_where_they_are_wanted(setting, monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    for name in ("NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert supports_live_view(Terminal())
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    assert not supports_live_view(Terminal())


def test_plain_lines_in_a_log(capsys):
    with Display(SCALE, 0, shown=True) as display:
        display.say("hello")
        display.step(400, 32.0)
        display.note(400, VALUES)
        display.call("not captured: it goes to the file itself")
    hello, line = capsys.readouterr().err.splitlines(keepends=True)
    assert hello == "hello\n"
    assert PLAIN.fullmatch(line)


def test_other_processes_say_warnings_only(capsys):
    with Display(SCALE, 0, shown=False) as display:
        display.say("hello")
        display.note(400, VALUES)
        display.warn("damaged")
    assert capsys.readouterr().err == "damaged\n"


def test_a_terminal_that_is_stopped_does_not_stop_training(data_dir, tmp_path):
    run = tmp_path / "run"
    terminal = Terminal(stalled=True)
    tcflow(terminal.slave, TCOOFF)  # as by Ctrl-S: writes to it block
    process = terminal.start(flags("vae", data_dir, run, "--preflight", "false"))
    assert process.wait(1000) == 0
    assert (run / "DONE").exists()


@pytest.mark.parametrize("plainly", [False, True])
def test_a_terminal_that_is_closed_does_not_end_training(plainly, data_dir, tmp_path):
    run = tmp_path / "run"
    terminal = Terminal()
    words = flags("vae", data_dir, run, "--optim.steps", "16")
    process = terminal.start(words, **({"NO_COLOR": "1"} if plainly else {}))
    while not ((run / "metrics.jsonl").exists() and len(points(run)) > 3):
        assert process.poll() is None, terminal.text()
        time.sleep(0.02)
    os.close(terminal.master)
    assert process.wait(1000) == 0
    assert (run / "DONE").exists()
    assert points(run)[-1]["step"] == 16


def test_a_hangup_saves_and_stops(data_dir, tmp_path):
    run = tmp_path / "run"
    terminal = Terminal()
    process = terminal.start(flags("vae", data_dir, run, "--optim.steps", "10000", *BETWEEN_EVALUATIONS))
    while not ((run / "metrics.jsonl").exists() and len(points(run)) > 3):
        assert process.poll() is None, terminal.text()
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    try:
        assert process.wait(1000) == 85
    finally:
        process.kill()  # it has many steps to go
    assert "SIGHUP" in (run / "STOPPED").read_text()
    assert "SIGHUP: saving at the end of this step" in terminal.text()
    assert "Ctrl-C" not in terminal.text(), "only SIGINT comes from a keyboard"
    step = points(run)[-1]["step"]
    assert all_checkpoints(run / "checkpoints")[0].name == f"step-{step:08d}"


def test_what_the_view_says_about_saves():
    written = [0]
    progress = Progress(SCALE, 0, lambda: written[0])
    assert progress.saves(0.0) == "next save at 50"
    progress.step = 50
    progress.begin_save(50)
    assert progress.saves(2.0) == "saving step 50, next save at 100 in 0:25"
    written[0] = 50
    assert progress.saves(2.0).startswith("saved at step 50, 0:00 ago, next save at 100")
    progress.step = progress.save_step = 400
    assert "next" not in progress.saves(2.0)
    assert Progress(SCALE, 120, lambda: 0).saves(0.0) == "resumed from step 120, next save at 170"


@given(st.integers(0, 400), st.dictionaries(st.text(min_size=1, max_size=9), st.floats()), st.floats(0, 1) | st.none())
def test_anything_can_be_drawn(step, losses, waiting):
    from rich.console import Console

    progress = Progress(SCALE, 0, lambda: 0)
    progress.step, progress.losses, progress.waiting, progress.doing = step, losses, waiting, "[red]"
    console = Console(width=60, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(render(progress))
    assert f"step {step}/400" in "".join(part.text for part in Console(width=120).render(render(progress)))


@given(st.floats(0, 1e7))
def test_a_clock_can_be_read_back(seconds):
    words = clock(seconds)
    if "d" in words:
        days, hours = map(int, re.fullmatch(r"(\d+) d (\d+) h", words).groups())
        assert 0 <= seconds + 1 - 86400 * days - 3600 * hours <= 3602
    else:
        parts = [int(part) for part in words.split(":")]
        assert sum(part * 60**i for i, part in enumerate(reversed(parts))) == round(seconds)


def test_a_stream_whose_reader_has_gone():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        stream = BestEffortStream(file)
        stream.write("lost\n")
        stream.flush()
        print("lost", file=stream, flush=True)
        assert stream.fileno() == file.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())  # so that closing can flush
