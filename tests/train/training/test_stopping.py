"""A stop request in each long phase: the real command ends within seconds, records it, and nothing is lost."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.train.conftest import PATIENCE_S, STEPS, flags, points, start, train
from tests.train.training.test_run import SAME, assert_same_state
from train.runs.checkpoint import all_checkpoints, step_of

# A stop takes 0.1 s, or 2 s under the launcher, and a slow phase a minute. The limit is for a busy machine.
SECONDS = 40.0
MODULE = "tests.train.slow_phases"


def stop_in(phase, words, mark, send, processes=1, step=0, rank=""):
    """Starts the command, waits for a slow phase, sends a signal; returns its exit code and what it printed."""
    known = {"SLOW_PHASE": phase, "SLOW_STEP": str(step), "SLOW_RANK": rank, "SLOW_MARK": str(mark)}
    process = start(words, processes, session=True, module=MODULE, **known)
    slow = [f"{mark}{rank}"] if rank else [f"{mark}{number}" for number in range(processes)]
    try:
        for _ in range(50000):
            if all(map(os.path.exists, slow)):
                break
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        time.sleep(1.0)  # a line says which phase it is
        began = time.monotonic()
        send(process)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert time.monotonic() - began < SECONDS
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        for path in slow:
            if os.path.exists(path):
                os.remove(path)
    return process.returncode, out + err


def to_all(number):
    """As a terminal or Slurm sends it; the launcher sends it again."""
    return lambda process: os.killpg(process.pid, number)


def to_rank(rank, number):
    def send(process):
        for child in psutil.Process(process.pid).children(recursive=True):
            if child.environ().get("RANK") == rank and MODULE in child.cmdline():
                child.send_signal(number)

    return send


def last_events(run):
    lines = [json.loads(line) for line in (run / "attempts.jsonl").read_text().splitlines()]
    return [(line["event"], line.get("reason"), line["step"]) for line in lines[-2:]]


def newest_step(run):
    """Step of the newest checkpoint; 0 without one."""
    return max((step_of(path) for path in all_checkpoints(run / "checkpoints")), default=0)


def assert_same_run(run, other):
    assert_same_state(run, other)
    for a, b in zip(points(run), points(other), strict=True):
        assert a["step"] == b["step"]
        assert {k: v for k, v in a.items() if k.startswith(SAME)} == {k: v for k, v in b.items() if k.startswith(SAME)}


@pytest.mark.slow(area="faults")
def test_a_stop_in_any_phase_changes_nothing(data_dir, tmp_path):
    run, mark = tmp_path / "vae", tmp_path / "mark"
    examples = ("--tracking.audio_every", "4")
    words = flags("vae", data_dir, run, *examples)
    ctrl_c, terminate, ids = to_all(signal.SIGINT), to_all(signal.SIGTERM), set()
    for phase, send, reason, line in (
        ("preflight", ctrl_c, "SIGINT", "preflight: checking processes, data and disk ..."),
        ("share", terminate, "SIGTERM", "step 0: measuring held-out chunks ..."),
    ):
        stops_before_a_step(phase, words, mark, send, reason, line)
        ids.add(json.loads((run / "run.json").read_text())["run_id"])
    assert len(ids) == 1, "to W&B all attempts are one run"

    for step, before, send, reason in ((4, 0, ctrl_c, "SIGINT"), (STEPS, 4, terminate, "SIGTERM")):
        code, said = stop_in("share", words, mark, send, step=step)
        assert code == 85
        assert f"step {step}: measuring held-out chunks ..." in said
        assert f"stopped at step {step} ({reason}), all saved" in said
        assert last_events(run) == [("started", None, before), ("ended", reason, step)]
        assert points(run)[-1]["step"] == step - 1, "its point is in the checkpoint, without the measures"
        assert newest_step(run) == step
        if step == 4:
            # The attempt that repeats the evaluation is stopped while it draws examples, and its process takes some
            # seconds to end. The point is still not logged, as it has no measures.
            code, said = stop_in("examples", words, mark, terminate)
            assert code == 85
            assert last_events(run) == [("started", None, 4), ("ended", "SIGTERM", 4)]
            assert points(run)[-1]["step"] == 3
    assert f"vae, stopped, step {STEPS} of {STEPS}" in train(["status", str(run)])

    code, said = stop_in("close", words, mark, ctrl_c)
    assert code == 0
    assert f"finished at step {STEPS}" in said
    assert "W&B receives the last points" in said
    assert (run / "DONE").exists()
    train(flags("vae", data_dir, tmp_path / "straight", *examples))
    assert_same_run(run, tmp_path / "straight")


@pytest.mark.slow(area="faults")
def test_a_stop_in_any_other_phase(data_dir, straight, tmp_path):
    run, mark = tmp_path / "vae", tmp_path / "mark"
    words = flags("vae", data_dir, run)
    code, said = stop_in("data", words, mark, to_all(signal.SIGTERM))
    assert code == 85
    assert "opening the data ..." in said
    assert "stopped (SIGTERM) before training began" in said
    assert not (run / "attempts.jsonl").exists()
    for phase, send, reason, line in (
        ("share", lambda process: (run / "STOP").touch(), "STOP", "step 0: measuring held-out chunks ..."),
        ("batch", to_all(signal.SIGINT), "SIGINT", "first step: reading the first chunks ..."),
    ):
        stops_before_a_step(phase, words, mark, send, reason, line)
    train(words)
    assert_same_run(run, straight("vae"))


def stops_before_a_step(phase, words, mark, send, reason, line):
    run = Path(words[words.index("--run-dir") + 1])
    code, said = stop_in(phase, words, mark, send)
    assert code == 85
    assert line in said
    assert f"stopped at step 0 ({reason}) before another step; run the same command" in said
    assert last_events(run) == [("started", None, 0), ("ended", reason, 0)]
    assert (run / "STOPPED").read_text() == f"step 0: {reason}\n"
    assert not (run / "STOP").exists()


ON_ANOTHER = "signal on another process"


@pytest.mark.parametrize(
    "stops",
    [
        pytest.param(
            [
                ("share", 0, "1", to_rank("1", signal.SIGTERM), ON_ANOTHER),
                ("share", 4, "1", lambda process: process.send_signal(signal.SIGTERM), "SIGTERM"),
            ],
            marks=pytest.mark.slow(area="faults"),
        ),
        pytest.param(
            [
                ("preflight", 0, "1", to_all(signal.SIGINT), "SIGINT"),
                ("first step", 0, "0", to_all(signal.SIGTERM), "SIGTERM"),
                ("share", 8, "0", to_rank("1", signal.SIGINT), ON_ANOTHER),
            ],
            marks=pytest.mark.slow(area="faults"),
        ),
    ],
)
def test_two_processes_agree_on_a_stop_in_any_phase(stops, data_dir, straight_in_two, tmp_path):
    """Only one process is slow, and waited for by the other; the signal reaches all of them, or one alone."""
    run, mark = tmp_path / "vqvae", tmp_path / "mark"
    words = flags("vqvae", data_dir, run)
    for phase, step, rank, send, reason in stops:
        code, said = stop_in(phase, words, mark, send, 2, step, rank)
        assert code == (0 if reason == ON_ANOTHER else 1), "the launcher's code is 1 after a signal to itself"
        event, given, at = last_events(run)[1]
        if reason == "SIGINT" and given == "SIGTERM":
            reason = given  # on a busy machine the launcher, which Ctrl-C ends, may be quicker with its SIGTERM
        assert (event, given, at) == ("ended", reason, step)
        assert "error" not in said.partition("Traceback")[0], "the traceback is the launcher's"
        assert (run / "STOPPED").read_text() == f"step {step}: {reason}\n"
        assert newest_step(run) == step, "the steps since the last checkpoint are saved, too"
    train(words, processes=2)
    assert_same_run(run, straight_in_two)


@pytest.mark.slow(area="faults")
def test_a_stop_while_the_model_compiles(data_dir, tmp_path):
    run = tmp_path / "vae"
    process = start(flags("vae", data_dir, run, "--compile", "true"), session=True)
    for line in process.stderr:
        if "compiling the model" in line:
            break
    time.sleep(1.0)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 85
    assert time.monotonic() - began < SECONDS
    assert last_events(run)[1] == ("ended", "SIGINT", 0)
