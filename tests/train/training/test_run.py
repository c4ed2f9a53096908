"""The real command with a tiny model: on one process, on several, interrupted, and with wrong input."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

import audiovae
from tests.train.conftest import (
    BETWEEN_EVALUATIONS,
    LEVELS,
    ROOT,
    STEPS,
    environment,
    flags,
    flip_a_bit,
    kill_at_step,
    points,
    start,
    start_ranks,
    train,
    wait_for_step,
)
from train.runs.checkpoint import all_checkpoints
from train.runs.lines import read_events

FAMILIES = ("vae", "hvae", "vqvae")
SAME = ("loss/", "valid/", "model/", "optim/")


def quick_with(family: str) -> list:
    """The families as parameters; the tests of all but one are slow."""
    return [pytest.param(name, marks=() if name == family else pytest.mark.slow(area="pairs")) for name in FAMILIES]


def last_checkpoint(run: Path) -> Path:
    return all_checkpoints(run / "checkpoints")[0]


def assert_same_state(one: Path, other: Path) -> None:
    """Weights, averages, codebooks, optimizer and cursor are the same, bit for bit, and so is a discriminator."""
    a, b = last_checkpoint(one), last_checkpoint(other)
    assert a.name == b.name
    files = {path.name for path in a.glob("*.safetensors")}
    assert files == {path.name for path in b.glob("*.safetensors")}
    assert files >= {"training.safetensors", "model.safetensors", "optimizer.safetensors"}
    for file in files:
        first, second = load_file(a / file), load_file(b / file)
        assert first.keys() == second.keys()
        for name in first:
            assert torch.equal(first[name], second[name]), (file, name)
    assert (a / "state.json").read_text() == (b / "state.json").read_text()


@pytest.mark.parametrize("family", quick_with("vae"))
def test_two_processes_equal_one(family, data_dir, straight, tmp_path):
    run = tmp_path / family
    train(flags(family, data_dir, run), processes=2)
    one, two = points(straight(family)), points(run)
    assert [row["step"] for row in one] == [row["step"] for row in two] == list(range(STEPS + 1))
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if name.startswith(SAME):
                assert b[name] == pytest.approx(a[name], rel=2e-3, abs=2e-5), (a["step"], name)
    assert (run / "DONE").exists()


@pytest.mark.slow(area="pairs")
def test_an_uneven_share_and_small_micro_batches_change_nothing(data_dir, straight, tmp_path):
    """Six chunks are 2, 2, 1 and 1 on four processes, and micro-batches of 4 and 2 on one."""
    for processes, more in ((4, []), (1, ["--data.microbatch", "4"])):
        run = tmp_path / f"run-{processes}"
        train(flags("vqvae", data_dir, run, *more), processes)
        for a, b in zip(points(straight("vqvae")), points(run), strict=True):
            for name in ("loss/total", "model/perplexity", "valid/si_sdr"):
                if name in a:
                    assert b[name] == pytest.approx(a[name], rel=2e-3, abs=1e-4), (processes, a["step"], name)


@pytest.mark.parametrize("family", quick_with("hvae"))
def test_stop_and_resume_equal_no_interruption(family, data_dir, straight, tmp_path):
    run = tmp_path / family
    process = start(flags(family, data_dir, run))
    wait_for_step(run, 2, process)
    (run / "STOP").touch()
    _, err = process.communicate(timeout=1000)
    assert process.returncode == 85, err
    assert (run / "STOPPED").exists()
    assert not (run / "DONE").exists()
    said = train(flags(family, data_dir, run), fresh=family == "vqvae")  # one is a process that shares nothing
    assert "from step 0" not in said
    assert not (run / "STOP").exists()
    assert_same_state(run, straight(family))
    assert [row["step"] for row in points(run)] == list(range(STEPS + 1))
    events = [json.loads(line)["event"] for line in (run / "attempts.jsonl").read_text().splitlines()]
    assert events == ["started", "ended", "started", "ended"]


def test_an_hvae_with_levels_of_the_upper_bands_resumes_bit_for_bit(data_dir, tmp_path):
    more = [*LEVELS, "--weights.levels", "0.01"]
    train(flags("hvae", data_dir, tmp_path / "straight", *more))
    train(flags("hvae", data_dir, tmp_path / "run", *more, "--stop_at", "3"), code=85)
    train(flags("hvae", data_dir, tmp_path / "run", *more))
    assert_same_state(tmp_path / "run", tmp_path / "straight")


def test_a_killed_run_resumes_from_its_newest_intact_checkpoint(data_dir, tmp_path):
    """A run that is killed, and whose newest checkpoint is damaged, ends like a run without interruption."""
    straight, run = tmp_path / "straight", tmp_path / "killed"
    longer = ["--optim.steps", "40"]
    train(flags("vqvae", data_dir, straight, *longer))
    kill_at_step(10, flags("vqvae", data_dir, run, *longer), run)
    flip_a_bit(last_checkpoint(run) / "training.safetensors")
    said = train(flags("vqvae", data_dir, run, *longer))
    assert "renamed to damaged-" in said
    assert list((run / "checkpoints").glob("damaged-*"))
    assert_same_state(run, straight)
    assert [row["step"] for row in points(run)] == list(range(41)), "each step once"


def test_two_processes_resume_bit_for_bit(data_dir, straight_in_two, tmp_path):
    run = tmp_path / "stopped"
    train(flags("vqvae", data_dir, run, "--stop_at", "3"), processes=2, code=85)
    assert (run / "STOPPED").exists()
    train(flags("vqvae", data_dir, run), processes=2)
    assert_same_state(run, straight_in_two)


def test_a_stop_during_start_up_is_heard_and_an_old_one_is_not(data_dir, tmp_path):
    run = tmp_path / "vae"
    words = flags("vae", data_dir, run, "--optim.steps", "4000")
    train([*words, "--stop_at", "3"], code=85)
    (run / "STOP").touch()
    os.utime(run / "STOP", (1e9, 1e9))
    assert "(stop_at 5)" in train([*words, "--stop_at", "5"], code=85)
    (run / "STOP").touch()
    os.utime(run / "STOP", (soon := time.time() + 5, soon))  # as if it came after the start, which takes a moment
    process = start(words)
    _, err = process.communicate(timeout=1000)
    assert process.returncode == 85, err
    assert "stopped at step 5 (STOP) before another step" in err or "stopped (STOP) before training began" in err
    assert not (run / "STOP").exists()


def test_the_loss_of_a_process_is_one_line(data_dir, tmp_path):
    """After kill -9 of one of two processes the other prints one line, without a traceback."""
    run = tmp_path / "vae"
    process, other = start_ranks(flags("vae", data_dir, run, "--optim.steps", "4000"), 2)
    wait_for_step(run, 3, process)
    other.kill()
    _, err = process.communicate(timeout=1000)
    assert process.returncode == 1
    assert err.count("error: another process of this run ended") == 1
    assert "gloo" not in err
    assert json.loads((run / "attempts.jsonl").read_text().splitlines()[-1])["event"] == "failed"


def test_a_shard_that_is_cut_meanwhile_is_noted(data_dir, tmp_path):
    """The kernel ends the process with a bus error, which no `except` sees."""
    shutil.copytree(data_dir, tmp_path / "set")
    run = tmp_path / "vae"
    process = start(flags("vae", tmp_path / "set", run, "--optim.steps", "4000"))
    wait_for_step(run, 1, process)
    (shard,) = (tmp_path / "set").glob("train-*.tar")
    os.truncate(shard, 5000)
    _, err = process.communicate(timeout=1000)
    assert process.returncode == 1
    assert "has become shorter while it was read, 5000 bytes instead of" in err
    assert [event["event"] for event in read_events(run / "attempts.jsonl")] == ["started", "failed"]


def test_a_process_without_its_launcher_does_not_start(data_dir, tmp_path):
    """The launcher ends before the process can ask for a signal at its death: the parent is then init, not Python."""
    run, process_of = tmp_path / "vae", tmp_path / "pid"
    words = shlex.join([sys.executable, "-m", "train", *flags("vae", data_dir, run)])
    subprocess.run(
        ["bash", "-c", f"(sleep 1; exec {words}) > /dev/null 2>&1 & echo $! > {process_of}"],
        env=environment(TORCHELASTIC_RUN_ID="none"),
        cwd=ROOT,
        check=True,
    )
    pid = int(process_of.read_text())
    for _ in range(1200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    assert not run.exists()


def test_one_process_at_a_time(data_dir, tmp_path):
    """The second process does not write the batch script's note of a user error: the cause is temporary."""
    run = tmp_path / "vae"
    words = flags("vae", data_dir, run, "--optim.steps", "4000")
    process = start(words)
    wait_for_step(run, 2, process)
    note = tmp_path / "refusal"
    assert "another process is training there" in train(words, code=1, AUDIO_TRAIN_REFUSAL=str(note))
    assert not note.exists()
    assert "lower the batch" in train([*words, "--data.batch", "9999"], code=1, AUDIO_TRAIN_REFUSAL=str(note))
    assert not note.exists(), "the data might have been away"
    assert "optim.lrr" in train([*words, "--optim.lrr", "1"], code=1, AUDIO_TRAIN_REFUSAL=str(note))
    assert "optim.lrr" in note.read_text()
    process.kill()
    process.wait()


def test_more_steps_may_be_asked_of_a_finished_run(data_dir, tmp_path):
    run = tmp_path / "vae"
    train(flags("vae", data_dir, run))
    more = ["--optim.steps", str(STEPS + 3), "--optim.betas", "[0.8,0.9]"]
    assert "allow_changes" in train(flags("vae", data_dir, run, *more), code=1)
    said = train(flags("vae", data_dir, run, *more, "--allow_changes", "true"))
    assert f"from step {STEPS}" in said
    assert f"finished at step {STEPS + 3}" in said
    assert f"finished, step {STEPS + 3} of {STEPS + 3} (100.0 %)" in train(["status", str(run)])
    assert "finished already" in train(flags("vae", data_dir, run, *more)), "the newest settings are the run's"
    said = train(flags("vae", data_dir, run, "--model.latent", "5", "--allow_changes", "true"), code=1)
    assert "model.latent: 8 -> 5" in said


def test_a_signal_and_resume_on_another_number_of_processes(data_dir, tmp_path):
    """Ctrl-C as a terminal sends it: to every process, and again from the launcher. Then one process, then two."""
    run = tmp_path / "hvae"
    words = flags("hvae", data_dir, run, "--optim.steps", "400", *BETWEEN_EVALUATIONS)
    process = start(words, processes=2, session=True)
    wait_for_step(run, 3, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=1000)
    assert "all saved" in err
    assert "(SIGINT)" in err
    stopped_at = points(run)[-1]["step"]

    process = start(words)
    wait_for_step(run, stopped_at + 2, process)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=1000)
    assert process.returncode == 85
    assert f"from step {stopped_at}" in err
    stopped_at = points(run)[-1]["step"]

    process = start(words, processes=2)
    wait_for_step(run, stopped_at + 2, process)
    (run / "STOP").touch()
    _, err = process.communicate(timeout=1000)
    assert process.returncode == 0, "a launcher would take any other code for a crash"
    assert f"from step {stopped_at}" in err
    assert "Traceback" not in err
    steps = [row["step"] for row in points(run)]
    assert steps == list(range(len(steps)))


@pytest.mark.slow(area="faults")
def test_the_launchers_death_ends_its_processes(data_dir, tmp_path):
    """While training, processes save and stop; at start-up they end before they have connected."""
    run = tmp_path / "vae"
    words = flags("vae", data_dir, run, "--optim.steps", "4000", *BETWEEN_EVALUATIONS)
    process = start(words, processes=2, fresh=True)
    wait_for_step(run, 3, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    _, err = process.communicate(timeout=1000)
    assert not psutil.wait_procs(children, timeout=1000)[1]
    assert "all saved" in err
    assert (run / "STOPPED").exists()
    assert points(run)[-1]["step"] == int(last_checkpoint(run).name[5:]), "nothing is lost"

    process = start(words, processes=2, fresh=True)
    end = time.monotonic() + 300
    while len(children := psutil.Process(process.pid).children()) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(1.0)  # the interpreter runs, and is still importing libraries
    process.kill()
    process.communicate(timeout=1000)
    assert not psutil.wait_procs(children, timeout=1000)[1]


def test_a_finished_run_says_so_and_can_be_loaded(data_dir, straight):
    run = straight("vae")
    before = (run / "attempts.jsonl").read_text()
    assert "finished already" in train(flags("vae", data_dir, run))
    assert (run / "attempts.jsonl").read_text() == before
    model = audiovae.load(run)
    assert model.family == "vae"
    assert audiovae.load(last_checkpoint(run)).samples == model.samples


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--optim.lrr", "3"], "did you mean --optim.lr?"),
        (["--optim.lr", "fast"], "optim.lr"),
        (["--run-dir", "/nowhere"], "--run-dir is given twice"),
        (["--data.batch", "100000"], "lower the batch size"),
        (["--model.trunk.strides", "[4,5]"], "does not divide"),
        (["--model.trunk.strides", "[21]"], "there must be one width for each stride"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--data.microbatch", "x"], "data.microbatch"),
    ],
)
def test_wrong_input_is_one_line(more, expected, data_dir, tmp_path):
    said = train(flags("vae", data_dir, tmp_path / "run", *more), code=1)
    lines = said.strip().splitlines()
    assert len(lines) == 1, said
    assert lines[0].startswith("error: ")
    assert expected in lines[0]


def test_data_that_is_not_there_is_one_line(tmp_path):
    said = train(flags("vae", Path("/nowhere"), tmp_path / "run"), code=1)
    assert said.count("\n") == 1
    assert "error: /nowhere has no dataset.json" in said


def test_wrong_input_is_said_by_one_process(data_dir, tmp_path):
    said = train(flags("vae", data_dir, tmp_path / "run", "--optim.lrr", "3"), processes=2, code=1)
    assert said.count("did you mean --optim.lr?") == 1


def test_a_run_that_only_skips_ends_and_names_its_chunks(data_dir, tmp_path):
    """A learning rate so large that all gradients after the first step are not finite."""
    run = tmp_path / "vae"
    wild = ["--optim.lr", "1e30", "--optim.clip", "1e30", "--optim.skip_limit", "3", "--optim.steps", "40"]
    said = train(flags("vae", data_dir, run, *wild, "--checkpoint.every", "100"), code=1)
    assert "error: 3 steps in a row had values that are not finite" in said
    (file,) = run.glob("skipped-step-*-rank-0.json")
    assert all(re.fullmatch(r"\d{8}_\d{12}\.wav", name) for name in json.loads(file.read_text())["chunks"])
    assert json.loads((run / "attempts.jsonl").read_text().splitlines()[-1])["event"] == "failed"


def test_skipped_steps_count_over_attempts(data_dir, tmp_path):
    """Each attempt skips fewer steps than the limit: without the count of the one before, the run would finish."""
    run = tmp_path / "vae"
    wild = ["--optim.lr", "1e30", "--optim.clip", "1e30", "--optim.skip_limit", "3", "--optim.steps", "5"]
    words = flags("vae", data_dir, run, *wild, "--optim.warmup_steps", "0")
    train([*words, "--stop_at", "3"], code=85)
    assert json.loads((last_checkpoint(run) / "state.json").read_text())["skipped_in_a_row"] == 2
    assert "error: 4 steps in a row" in train([*words, "--tracking.every", "5"], code=1)
    assert not (run / "DONE").exists()


def test_other_settings_are_refused_with_the_difference(data_dir, straight, tmp_path):
    said = train(flags("vae", data_dir, straight("vae"), "--optim.lr", "0.5"), code=1)
    assert "optim.lr: 0.001 -> 0.5" in said
    said = train(flags("vae", data_dir, tmp_path, "--seed", "1"))
    assert "finished" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    said = train(flags("vae", data_dir, tmp_path / "full"), code=1)
    assert "not a run and not empty" in said
    assert (tmp_path / "full" / "thesis.tex").exists()
