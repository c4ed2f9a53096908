"""A program that asks for a fork behaves like a Python of its own: signals, exit status, folder, streams."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from tests import preloaded
from tests.train.conftest import BETWEEN_EVALUATIONS, environment, flags, wait_for_step

PYTHON = str(preloaded.FORKED / "python")


def begin(*words: str, folder: Path = preloaded.ROOT) -> subprocess.Popen:
    pipe = subprocess.PIPE
    surroundings = preloaded.with_forks(environment())
    return subprocess.Popen([PYTHON, *words], cwd=folder, env=surroundings, text=True, stdout=pipe, stderr=pipe)


def long_run(data_dir: Path, run: Path) -> tuple[subprocess.Popen, psutil.Process]:
    """A run in training, as the program that asked and its fork."""
    server = psutil.Process(preloaded.server().pid)
    before = {child.pid for child in server.children()}
    process = begin("-u", "-m", "train", *flags("vae", data_dir, run, "--optim.steps", "4000", *BETWEEN_EVALUATIONS))
    wait_for_step(run, 2, process)
    (fork,) = (child for child in server.children() if child.pid not in before)
    return process, fork


def test_a_signal_is_passed_on_and_the_exit_status_comes_back(data_dir, tmp_path):
    process, _ = long_run(data_dir, tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=1000)
    assert process.returncode == 85
    assert "stopped at step" in err
    assert "(SIGTERM), all saved" in err


def test_signals_that_its_parent_ignores_are_ignored(data_dir, tmp_path):
    run = tmp_path / "run"
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process, fork = long_run(data_dir, run)
    finally:
        signal.signal(signal.SIGHUP, handler)
    process.send_signal(signal.SIGHUP)
    fork.send_signal(signal.SIGHUP)
    (run / "STOP").touch()
    assert "(STOP), all saved" in process.communicate(timeout=1000)[1]


def test_when_one_is_killed_the_other_ends(data_dir, tmp_path):
    process, fork = long_run(data_dir, tmp_path / "first")
    process.kill()
    process.communicate(timeout=1000)
    assert not psutil.wait_procs([fork], timeout=1000)[1]

    process, fork = long_run(data_dir, tmp_path / "second")
    fork.kill()
    process.communicate(timeout=1000)
    assert process.returncode == -signal.SIGKILL


def test_it_works_in_the_current_folder(tmp_path):
    done = begin("-m", "shards", "practice", "here", "--minutes", "0.3", folder=tmp_path)
    out, err = done.communicate(timeout=1000)
    assert done.returncode == 0, err
    assert list((tmp_path / "here").iterdir())
    assert out


def test_other_commands_are_run_by_python_itself(tmp_path):
    """Its options too."""
    done = begin("-I", "-c", "import sys; print(sys.flags.isolated, sys.executable, 'torch' in sys.modules)")
    assert done.communicate(timeout=1000)[0].split() == ["1", sys.executable, "False"]
    (tmp_path / "own.py").write_text("import os; print(os.getcwd())")
    done = begin("-m", "own", folder=tmp_path)
    assert done.communicate(timeout=1000)[0].strip() == os.path.realpath(tmp_path)


def test_a_request_that_breaks_off_ends_no_server(tmp_path):
    for part in (b"", b"\0\0", (1000).to_bytes(8, "big"), (1000).to_bytes(8, "big") + b"{"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(preloaded.server().address)
            client.sendall(part)
    process = begin("-m", "train", "status", "nowhere", folder=tmp_path)
    process.kill()  # at any place of its request
    process.communicate(timeout=1000)
    process = begin("-m", "train", "status", "nowhere", folder=tmp_path)
    assert "nowhere" in process.communicate(timeout=1000)[1]
    assert process.returncode == 1
