"""A process without progress ends and writes the stacks of its threads."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.train.conftest import flags, start_ranks
from train.process.watchdog import watchdog_limit

ROOT = Path(__file__).parents[3]

STUCK = """
import sys, time
from pathlib import Path
from train.process.watchdog import Watchdog
def where_the_time_goes():
    time.sleep(60)
with Watchdog(float(sys.argv[2]), Path(sys.argv[1]), lambda: "chunks 1 2 3", lambda text: print("last:", text)) as dog:
    with dog.paused():
        time.sleep(1.0)
    for _ in range(20):
        dog.heartbeat()
        time.sleep(0.05)
    print("was fine", flush=True)
    where_the_time_goes()
"""


def test_compiling_is_no_hang():
    assert watchdog_limit(900.0, compiles=False) == 900.0
    assert watchdog_limit(900.0, compiles=True) == 3600.0
    assert watchdog_limit(7200.0, compiles=True) == 7200.0
    assert watchdog_limit(0.0, compiles=True) == 0.0  # never


def test_a_stuck_process_writes_stacks_and_ends(tmp_path):
    command = [sys.executable, "-c", STUCK, str(tmp_path / "hang.txt"), "0.6"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=1000)
    assert done.returncode == 1
    assert done.stdout.startswith("was fine\nlast: no progress for 0.6 s")
    assert done.stderr == f"error: no progress for 0.6 s; stacks of all threads: {tmp_path}/hang.txt\n"
    text = (tmp_path / "hang.txt").read_text()
    assert "where_the_time_goes" in text or "line 6" in text
    assert text.endswith("chunks 1 2 3\n")


def test_rank_0_does_not_wait_for_ever_after_its_own_work(tmp_path):
    process, other = start_ranks([str(tmp_path)], 2, "tests.train.process.absent_rank")
    out, err = process.communicate(timeout=1000)
    other.kill()
    assert process.returncode == 1
    assert out == "work was done: True\n"
    assert "error: no progress for 2 s" in err
    assert "at a meeting" in (tmp_path / "rank-0.txt").read_text()
    assert not (tmp_path / "rank-1.txt").exists()


def test_a_process_that_hangs_ends_the_run(data_dir, tmp_path):
    """One of two processes is halted, in a step or about a save; the other does not wait for it for ever."""
    run = tmp_path / "run"
    words = flags("vae", data_dir, run, "--optim.steps", "100000", "--watchdog_s", "6")
    words += ["--tracking.evaluate_every", "100000", "--checkpoint.every", "1"]
    process, other = start_ranks(words, 2)
    end = time.monotonic() + 1000
    while not (run / "metrics.jsonl").exists() or (run / "metrics.jsonl").read_text().count("\n") < 5:
        assert time.monotonic() < end
        time.sleep(0.1)
    other.send_signal(signal.SIGSTOP)
    _, err = process.communicate(timeout=1000)
    other.kill()
    assert process.returncode == 1
    assert "error: no progress for 6 s" in err
    text = (run / "hang-rank-0.txt").read_text()
    assert "loop.py" in text  # wherever in a step it waits for the other
    assert ".wav" in text
    last = json.loads((run / "attempts.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "failed"
    assert "no progress" in last["reason"]
