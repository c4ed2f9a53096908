"""A run folder from a stranger: links, pipes and folders in it are refused, and nothing outside is touched."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shards.files import UnsafePathError
from tests.train.conftest import ROOT, flags, start, train
from train.__main__ import run as main_run
from train.config import DataConfig, TrackingConfig, VAERun
from train.errors import TrainError
from train.evaluation.report.sounds import write_wavs
from train.runs import checkpoint
from train.runs.run_folder import RunDir

FILES = ["run.json", "metrics.jsonl", "attempts.jsonl", "jobs.jsonl", "preflight.json", "damage.jsonl"]
FILES += ["lock", "STOP", "STOPPED", "DONE"]
FOLDERS = ["checkpoints", "model", "preflight", "report", "samples", "wandb"]
KINDS = ["a symbolic link", "a named pipe", "a folder", "a device"]
COMMANDS = {
    "status": ["status", "RUN"],
    "status as JSON": ["status", "RUN", "--json"],
    "evaluate": ["evaluate", "RUN"],
    "evaluate elsewhere": ["evaluate", "RUN", "--out", "OUT"],
    "sync": ["sync", "RUN", "--prepare"],
    "compare": ["compare", "RUN", "OTHER", "--out", "OUT"],
    "which-samples": ["which-samples", "RUN", "--step", "1"],
}


def config_of(run: Path) -> VAERun:
    return VAERun(DataConfig("d"), run, tracking=TrackingConfig(wandb="disabled"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run, as far as files tell."""
    run = tmp_path_factory.mktemp("made") / "run"
    opened = RunDir.create_or_resume(config_of(run), "vae", "f")
    opened.begin(1, {"step": 0, "epoch": 0, "consumed": 0, "batch": 6, "seed": 0})
    (run / "metrics.jsonl").write_text('{"step": 8, "attempt": 1, "time": 1.0}\n')
    opened.end("finished", 8, finished=True)
    (run / "model").mkdir()
    (run / "report").mkdir()
    return run


@pytest.fixture
def victim(tmp_path):
    """A folder elsewhere that must stay as it is; the test ends when something waits for a pipe."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "file").write_bytes(b"precious\n")
    (folder / "best-9.wav").write_bytes(b"somebody's own")

    def state():
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}

    before, handler = state(), signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for a pipe"))
    signal.alarm(240)
    yield folder
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    assert state() == before


def lay_trap(place: Path, kind: str, victim: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    if kind == "a symbolic link":
        place.symlink_to(victim)
    elif kind == "a named pipe":
        os.mkfifo(place)
    elif kind == "a folder":
        place.mkdir()
    elif kind == "a device":
        try:
            os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 7))  # it is always full
        except PermissionError:
            pytest.skip("only root makes devices")
    else:
        place.write_text("a file\n")


def refused(words: list[str], run: Path, line: str, capsys) -> None:
    """The command ends with this one line."""
    places = {"RUN": str(run), "OTHER": str(run.parent / "other"), "OUT": str(run.parent / "out")}
    shutil.copytree(run, places["OTHER"], symlinks=True, ignore=lambda *_: [*FILES, *FOLDERS], dirs_exist_ok=True)
    assert main_run([places.get(word, word) for word in words]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"error: {line}\n")
    assert not (run.parent / "out").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_what_stands_for_a_file_is_refused(name, kind, made, tmp_path, victim, capsys):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    lay_trap(run / name, kind, victim / "file")
    line = f"{run / name}: it is {kind}, not a regular file; remove it"
    for words in COMMANDS.values():
        refused(words, run, line, capsys)
    with pytest.raises(TrainError) as caught:
        RunDir.create_or_resume(config_of(run), "vae", "f")
    assert str(caught.value) == line


@pytest.mark.parametrize("kind", ["a symbolic link", "a named pipe", "a file"])
@pytest.mark.parametrize("name", FOLDERS)
def test_what_stands_for_a_folder_is_refused(name, kind, made, tmp_path, victim, capsys):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    lay_trap(run / name, kind, victim)
    line = f"{run / name}: it is {kind}, not a real folder; remove it"
    for words in COMMANDS.values():
        refused(words, run, line, capsys)
    with pytest.raises(TrainError) as caught:
        RunDir.create_or_resume(config_of(run), "vae", "f")
    assert str(caught.value) == line


@pytest.mark.parametrize("kind", ["a symbolic link", "a named pipe"])
@pytest.mark.parametrize(
    "name", ["report/index.html", "report/metrics.json", "report/metrics.csv", "model/README.md", "model/facts.json"]
)
def test_an_evaluation_is_refused_before_the_work(name, kind, made, tmp_path, victim, capsys):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    lay_trap(run / name, kind, victim / "file")
    refused(["evaluate", "RUN"], run, f"{run / name}: it is {kind}, not a regular file; remove it", capsys)


def test_so_is_one_into_linked_audio(made, tmp_path, victim, capsys):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    (run / "report" / "audio").symlink_to(victim)
    line = f"{run}/report/audio: it is a symbolic link, not a real folder; remove it"
    refused(["evaluate", "RUN"], run, line, capsys)


def test_sounds_are_neither_removed_nor_written_elsewhere(tmp_path, victim):
    report = tmp_path / "report"
    report.mkdir()
    sounds = {"best-1": np.zeros(10, np.float32)}
    (report / "audio").symlink_to(victim)
    with pytest.raises(UnsafePathError, match="audio: it is a symbolic link"):
        write_wavs(report / "audio", sounds, 8000)
    (report / "audio").unlink()
    (report / "audio").mkdir()
    (report / "audio" / "best-1.wav").symlink_to(victim / "file")
    with pytest.raises(UnsafePathError, match=r"best-1.wav: it is a symbolic link"):
        write_wavs(report / "audio", sounds, 8000)
    (report / "audio" / "best-1.wav").unlink()
    (report / "audio" / "best-9.wav").symlink_to(victim / "best-9.wav")
    write_wavs(report / "audio", sounds, 8000)
    assert [path.name for path in (report / "audio").iterdir()] == ["best-1.wav"], "the link itself may go"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["attempts.jsonl", "jobs.jsonl", "DONE", "STOPPED"])
def test_the_decision_to_requeue_waits_for_nothing(name, kind, made, tmp_path, victim):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    lay_trap(run / name, kind, victim / "file")
    command = [sys.executable, "-m", "train.runs.requeue", str(run), "--code", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 3), done.stderr
    assert done.stdout.count("\n") == 1
    assert not done.stderr


def test_checkpoints_are_not_written_through_links(tmp_path, victim):
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").symlink_to(victim)
    with pytest.raises(TrainError, match="checkpoints: it is a symbolic link, not a real folder; remove it"):
        checkpoint.write_folder(run / "checkpoints" / "step-00000001", lambda folder: None, inside=run)
    (run / "model").symlink_to(victim)
    with pytest.raises(TrainError, match="model: it is a symbolic link, not a real folder; remove it"):
        checkpoint.write_folder(run / "model", lambda folder: None)


@pytest.mark.parametrize("kind", ["a symbolic link", "a named pipe"])
def test_a_checkpoint_with_a_pipe_is_damaged(kind, tmp_path, victim):
    folder = tmp_path / "step-00000001"
    folder.mkdir()
    content = {"files": {"x": {"bytes": 0, "sha256": ""}}}
    (folder / "manifest.json").write_text(json.dumps(content))
    lay_trap(folder / "x", kind, victim / "file")
    wanted = "x is no regular file" if kind == "a named pipe" else "x differs from what was saved"
    assert checkpoint.damage(folder) == wanted
    lay_trap(folder / "manifest.json", "a named pipe", victim)
    assert checkpoint.damage(folder) == "manifest.json is no regular file"


def test_a_training_does_not_go_on_there(straight, data_dir, tmp_path, victim):
    run = tmp_path / "run"
    shutil.copytree(straight("vae"), run)
    words = flags("vae", data_dir, run)
    lay_trap(run / "metrics.jsonl", "a symbolic link", victim / "file")
    said = train(words, code=1)
    assert said == f"error: {run}/metrics.jsonl: it is a symbolic link, not a regular file; remove it\n"
    lay_trap(run / "metrics.jsonl", "", victim)
    lay_trap(run / "lock", "a named pipe", victim)
    process = start(words)
    try:
        out, err = process.communicate(timeout=200)
    finally:
        process.kill()
    assert (process.returncode, out) == (1, "")
    assert err == f"error: {run}/lock: it is a named pipe, not a regular file; remove it\n"


def test_a_received_run_is_evaluated_without_touching_anything_else(straight, tmp_path, victim):
    """Links of names that other versions used for temporary files; and the run is reached through a link."""
    shutil.copytree(straight("vae"), tmp_path / "received", ignore=shutil.ignore_patterns("report"))
    run = tmp_path / "run"
    run.symlink_to(tmp_path / "received")
    (run / "report").mkdir()
    (run / "report" / "audio").mkdir()
    links = ["run.json.tmp", "model/README.md.tmp", "model/facts.json.tmp", "model.tmp", "report/index.html.tmp"]
    links += ["report/metrics.json.tmp", "report/metrics.csv.tmp", "report/audio/best-1-reference.wav.tmp"]
    for name in links:
        (run / name).symlink_to(victim / "file")
    said = train(["evaluate", str(run), "--examples", "1"])
    assert f"card:    {run}/model/README.md" in said.replace("\n", " ")
    assert (run / "report" / "index.html").read_text().startswith("<!")
    assert all((run / name).is_symlink() for name in links)
    sound = run / "report" / "audio" / "best-1-reference.wav"
    sound.unlink()
    sound.symlink_to(victim / "file")
    said = train(["evaluate", str(run), "--examples", "1"], code=1)
    assert said.splitlines()[-1] == f"error: {sound}: it is a symbolic link, not a regular file; remove it"
