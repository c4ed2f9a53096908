"""The disk fails at every single call of a save and of a start: the old state stays, and a second try succeeds."""

import os
import shutil
from contextlib import suppress

import pytest
import torch

import audiovae
from tests.train.failing_disk import FailingDisk, every_fault
from train.config import DataConfig, OptimConfig, TrackingConfig, VAERun
from train.errors import TrainError
from train.optim.snapshot import Snapshot
from train.runs import checkpoint, run_folder
from train.runs.checkpoint import Retention
from train.runs.lines import read_events, read_points
from train.runs.record import Record
from train.runs.run_folder import RunDir
from train.runs.sealed_lines import damaged_lines
from train.tracking.tracker import Tracker

CONFIG = {"trunk": {"strides": [21, 5], "channels": [4, 4], "blocks": 1, "kernel": 3}, "latent": 2}
PLACE = {"step": 1, "epoch": 0, "consumed": 0, "batch": 16, "seed": 0}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return audiovae.build("vae", CONFIG, 2205, 22050)


def snapshot(model, step: int) -> Snapshot:
    weights = {name: value.detach() + step for name, value in model.state_dict().items()}
    return Snapshot(weights, {}, {"exp_avg.x": torch.ones(2)}, step, {"step": step, "epoch": 0, "consumed": 0})


def contents(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.slow(area="faults")
def test_a_checkpoint(model, tmp_path):
    folder, keep = tmp_path / "checkpoints", Retention(newest=2)
    folder.mkdir()
    saved = {}
    for step in (1, 2, 3):
        path = checkpoint.save(folder, model, snapshot(model, step), keep, Record("id", "vae", {}, "f"))
        saved[step] = tmp_path / f"whole-{step}"
        shutil.copytree(path, saved[step])

    def act(disk: FailingDisk) -> None:
        shutil.rmtree(folder)
        for step in (1, 2):
            shutil.copytree(saved[step], folder / f"step-{step:08d}")
        with disk.mounted(), suppress(TrainError):
            checkpoint.save(folder, model, snapshot(model, 3), keep, Record("id", "vae", {}, "f"))

    for disk in every_fault(act):
        newest = checkpoint.newest_intact(folder, set_aside=False)
        assert newest is not None, disk.failed
        step = checkpoint.load(newest).state["step"]
        assert step in (2, 3), disk.failed
        assert contents(newest) == contents(saved[step])
        with FailingDisk().mounted():
            again = checkpoint.save(folder, model, snapshot(model, 3), keep, Record("id", "vae", {}, "f"))
        assert checkpoint.newest_intact(folder, set_aside=False) == again
        assert contents(again) == contents(saved[3])
        assert not list(folder.glob("*.tmp")), disk.failed


@pytest.mark.slow(area="faults")
def test_a_finished_model_over_an_earlier_one(model, tmp_path):
    folder, whole = tmp_path / "model", tmp_path / "whole"
    weights = {name: value + 1 for name, value in model.state_dict().items()}
    audiovae.save(model, whole)
    known = {audiovae.fingerprint(model)}
    audiovae.save(model, tmp_path / "new", weights)
    known.add(new := audiovae.fingerprint(audiovae.load(tmp_path / "new")))

    def save() -> None:
        checkpoint.write_folder(folder, lambda path: audiovae.save(model, path, weights))

    def act(disk: FailingDisk) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        with disk.mounted(), suppress(TrainError):
            save()

    for disk in every_fault(act, for_good=False):
        assert audiovae.fingerprint(audiovae.load(folder)) in known, disk.failed
        with FailingDisk().mounted():
            save()
        assert audiovae.fingerprint(audiovae.load(folder)) == new


@pytest.fixture
def unlocked():
    """A function that gives up the locks of this process, as its end would."""

    def unlock() -> None:
        while run_folder._locks:
            os.close(run_folder._locks.pop())

    yield unlock
    unlock()


@pytest.mark.parametrize("resumed", [False, True])
def test_a_start_and_an_end(resumed, model, tmp_path, unlocked):
    """Of a new run, and of one that is resumed with other settings."""
    path, before = tmp_path / "run", tmp_path / "before"
    config = VAERun(DataConfig("d"), path, optim=OptimConfig(steps=9), allow_changes=True)
    other = VAERun(DataConfig("d"), path, optim=OptimConfig(steps=8))
    off = TrackingConfig(wandb="disabled")

    def attempt(now: VAERun) -> None:
        run = RunDir.create_or_resume(now, "vae", "f")
        run.begin(1, PLACE if resumed else PLACE | {"step": 0})
        tracker = Tracker(run, off, 1, "disabled")
        tracker.log(2, {"loss/total": 2.0})
        tracker.close(failed=False)
        run.end("stopped", 2)

    if resumed:
        run = RunDir.create_or_resume(other, "vae", "f")
        run.begin(1, PLACE | {"step": 0})
        tracker = Tracker(run, off, 0, "disabled")
        for step in (0, 1):
            tracker.log(step, {"loss/total": 1.0})
        checkpoint.save(path / "checkpoints", model, snapshot(model, 1), Retention(), run.record)
        run.end("stopped", 1)
        unlocked()
        shutil.move(path, before)
        run_id = run.run_id

    def act(disk: FailingDisk) -> None:
        unlocked()
        shutil.rmtree(path, ignore_errors=True)
        if resumed:
            shutil.copytree(before, path)
        with disk.mounted(), suppress(TrainError, OSError):
            attempt(config)
        unlocked()

    for disk in every_fault(act):
        if resumed:
            assert RunDir.open(path).run_id == run_id, disk.failed
            assert {row["step"] for row in read_points(path / "metrics.jsonl")} in ({0, 1}, {0, 1, 2}), disk.failed
        with FailingDisk().mounted():
            attempt(config)
        run = RunDir.open(path)
        assert run.config["optim.steps"] == 9
        steps = [row["step"] for row in read_points(path / "metrics.jsonl")]
        assert steps == ([0, 1, 2] if resumed else [2]), disk.failed
        assert read_events(path / "attempts.jsonl")[-1]["event"] == "ended"
        assert (path / "STOPPED").read_text() == "step 2: stopped\n"
        assert damaged_lines(path / "attempts.jsonl") <= disk.for_good, disk.failed
