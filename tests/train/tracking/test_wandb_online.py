"""W&B online with a local test server, and with a W&B that is slow, hanging, out of disk space or unreachable.

In each case training keeps its steps and its speed and finishes, and `sync` uploads each point once.
"""

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from wandb_reader import SECRET, assert_nowhere, logged
from wandb_server import WandbServer

from tests import preloaded
from tests.train.conftest import ROOT, STEPS, environment, flags, points, start, train, wait_for_step

sys.path.append(str(ROOT / "tests" / "shards"))
from range_server import RangeServer

CLOSE_S = 3  # replaces the longer default
SELDOM = ["--tracking.evaluate_every", "20", "--tracking.audio_every", "20"]
BOUNDED = f"W&B did not receive all points within {CLOSE_S} s; run python -m train sync"
pytestmark = pytest.mark.slow(area="wandb")


@pytest.fixture
def server():
    with WandbServer() as running:
        yield running


def reach(url: str, wait_s: int = 240) -> dict[str, str]:
    return {"WANDB_API_KEY": SECRET, "WANDB_BASE_URL": url, "WANDB_INIT_TIMEOUT": str(wait_s)}


def begin(words: list[str], close_s: float = CLOSE_S, **more: str) -> preloaded.Process:
    """Starts the command with another limit for W&B at the end."""
    return start(words, module="tests.train.tracking.impatient", AUDIO_TRAIN_CLOSE_S=str(close_s), **more)


def finish(process: preloaded.Process, code: int = 0, last: str = "finished at step") -> str:
    """Waits for the end of an attempt; returns stderr, after checking that the output holds no secret."""
    try:
        out, err = process.communicate(timeout=1000)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert last in out + err
    assert "Traceback" not in err
    assert SECRET not in out + err
    return err


def core_of(process: preloaded.Process) -> psutil.Process:
    """W&B's service process; waits until it exists."""
    for _ in range(50000):
        for child in psutil.Process(process.pid).children(recursive=True):
            if child.name().startswith("wandb-core"):
                return child
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("W&B was not started")


def is_over(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.wait(120)
    return not process.is_running()


def assert_synced(run: Path, server: WandbServer, last: int) -> None:
    """After `sync` the server has each point once, and a second `sync` changes nothing."""
    for _ in range(2):
        train(["sync", str(run)], **reach(server.url))
        assert sorted(server.steps("loss/total")) == [*range(1, last + 1)]
        assert [row["step"] for row in points(run)] == [*range(last + 1)]


def test_attempts_are_one_run_and_no_secret_gets_out(data_dir, tmp_path, server):
    """Stopped, resumed, killed after a checkpoint and resumed; the URL of the data holds a password."""
    run = tmp_path / "vqvae"
    secrets = (SECRET, "pass%40word", "pass@word", "abc123signature")
    with RangeServer(data_dir) as far:
        url = far.url.replace("://", "://reader:pass%40word@") + "/?X-Signature=abc123signature"
        words = flags("vqvae", url, run, "--tracking.wandb", "online", "--optim.steps", "40", *SELDOM)
        # No limit of the product may cut the last points off, however slow the machine is.
        said = finish(begin([*words, "--stop_at", "5"], 1000, **reach(server.url)), 85, "stopped at step 5")
        assert server.steps("loss/total") == [1, 2, 3, 4, 5], said
        process = begin(words, **reach(server.url))
        wait_for_step(run, 14, process)
        core = core_of(process)
        process.kill()
        process.communicate()
        assert is_over(core)
        said += finish(begin(words, 1000, **reach(server.url)))
    steps = [*range(41)]
    assert [row["step"] for row in points(run)] == steps
    assert server.steps("loss/total") == steps[1:]
    assert server.steps("valid/si_sdr") == steps[::20]
    assert {row["attempt"] for row in server.history if "attempt" in row} == {1, 2, 3}
    assert set(server.steps("codebook/use_0")) <= {*steps[20::20]}
    for name in ("reference_then_reconstruction", "spectrograms", "examples"):
        assert any(f"valid/{name}" in file for file in server.files), name
    for secret in secrets:
        assert secret not in said
    assert_nowhere(run, *secrets)
    assert_synced(run, server, 40)


def test_a_server_that_cannot_be_reached_makes_an_attempt_offline(data_dir, tmp_path):
    """A refused connection, no answer, and an error: each times out, and the attempt is uploaded later."""
    with WandbServer() as silent, WandbServer() as broken:
        silent.mode, broken.mode = "silent", "broken"
        urls = {"refused": "http://127.0.0.1:9", "silent": silent.url, "broken": broken.url}

        def words(name: str) -> list[str]:
            # Preflight would see the first of them and choose offline itself.
            return flags("vae", data_dir, tmp_path / name, "--tracking.wandb", "online", "--preflight", "false")

        begun = {name: begin(words(name), 240, **reach(url, 2)) for name, url in urls.items()}
        for name, process in begun.items():
            warnings = [line for line in finish(process).splitlines() if line.startswith("warning")]
            assert len(warnings) == 1, (name, warnings)
            assert "this attempt is offline: W&B cannot be reached" in warnings[0]
            assert f"python -m train sync {tmp_path / name}" in warnings[0]
            assert [row["step"] for row in points(tmp_path / name)] == [*range(STEPS + 1)]
        silent.mode = "well"
        assert_synced(tmp_path / "silent", silent, STEPS)


def test_a_run_that_was_deleted_at_the_server(data_dir, tmp_path, server):
    """Its id is taken for ever, so `sync` alone cannot help."""
    run = tmp_path / "vae"
    server.only = "other"
    said = train(flags("vae", data_dir, run, "--tracking.wandb", "online"), **reach(server.url, 2))
    run_id = json.loads((run / "run.json").read_text())["run_id"]
    advice = f"run {run_id} was deleted at W&B; restore it there and run python -m train sync {run}, or upload it"
    assert f"warning: this attempt is offline: {advice}" in said
    again = {"WANDB_X_GRAPHQL_RETRY_MAX": "0"}
    assert f"error: {advice}" in train(["sync", str(run)], code=1, **reach(server.url, 20), **again)
    command = re.search(r"wandb sync --include-online --id NEW_ID (\S+)", said)[0].replace("NEW_ID", "other")
    wandb = f"{sys.executable} -m {command}"
    subprocess.run(
        wandb, shell=True, env=environment(**reach(server.url)), capture_output=True, check=True, timeout=1000
    )
    assert server.run == "other"
    assert set(server.steps("loss/total")) == {*range(1, STEPS + 1)}


@pytest.mark.parametrize("mode", ["silent", "broken"])
def test_a_server_that_goes_away_holds_nothing_up(data_dir, tmp_path, server, mode):
    run = tmp_path / "vae"
    process = begin(flags("vae", data_dir, run, "--tracking.wandb", "online"), **reach(server.url))
    while not server.run:  # the run has started on the server
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    server.mode = mode
    core = core_of(process)
    while not (run / "DONE").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    done = time.monotonic()
    assert BOUNDED in finish(process)
    assert time.monotonic() - done < CLOSE_S + 60
    assert is_over(core)
    server.mode = "well"
    assert_synced(run, server, STEPS)


def test_wandbs_process_halted_killed_or_without_room(data_dir, tmp_path):
    """Training continues, and sync adds the points that W&B did not write."""
    trouble = {
        "halted": lambda core: core.suspend(),
        "killed": lambda core: core.kill(),
        "full": lambda core: core.rlimit(psutil.RLIMIT_FSIZE, (4096, 4096)),
    }
    begun = {}
    for name in trouble:
        words = flags("vae", data_dir, tmp_path / name, "--tracking.wandb", "offline", "--optim.steps", "40", *SELDOM)
        begun[name] = begin(words)
    cores = {name: core_of(process) for name, process in begun.items()}
    for name, process in begun.items():
        wait_for_step(tmp_path / name, 4, process)
        trouble[name](cores[name])
    for name, process in begun.items():
        said = finish(process)
        assert is_over(cores[name])
        assert name != "halted" or BOUNDED in said
        assert name != "killed" or re.search(r"W&B stopped \(.+\); .*train sync", said)
        assert [row["step"] for row in points(tmp_path / name)] == [*range(41)]
        (added,) = re.findall(r"(\d+) points added", train(["sync", str(tmp_path / name), "--prepare"]))
        assert int(added) > 0
        assert {item["global_step"] for item in logged(tmp_path / name) if "attempt" in item} == {*range(41)}
