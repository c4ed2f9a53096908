"""A run folder that is not where it was: moved or copied, and what becomes of its W&B run."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.train.conftest import STEPS, flags, points, train
from tests.train.wandb_reader import history, parts, records
from train.config import DataConfig, OptimConfig, TrackingConfig, VAERun
from train.errors import TrainError
from train.runs import run_folder
from train.runs.location import Place
from train.runs.record import Record
from train.runs.run_folder import RunDir


def config_of(run: Path, relocated: str = "ask") -> VAERun:
    tracking = TrackingConfig(wandb="disabled")
    return VAERun(DataConfig("d"), run, optim=OptimConfig(steps=100), tracking=tracking, relocated=relocated)


def resumed(run: Path, relocated: str = "ask") -> RunDir:
    try:
        found = RunDir.create_or_resume(config_of(run, relocated), "vae", "f")
        found.begin(1, {"step": 3, "epoch": 0, "consumed": 0, "batch": 64, "seed": 0})
        return found
    finally:  # the kernel does this at the end of a process
        while run_folder._locks:
            os.close(run_folder._locks.pop())


@pytest.fixture
def begun(tmp_path) -> Path:
    """A folder `one/run` of a run with one attempt and, to all appearances, one checkpoint."""
    run = tmp_path / "one" / "run"
    run.parent.mkdir()
    resumed(run)
    (run / "checkpoints" / "step-00000003").mkdir()
    return run


def id_of(run: Path) -> str:
    return json.loads((run / "run.json").read_text())["run_id"]


def test_a_copy_beside_its_original_asks_and_has_an_id_of_its_own_then(begun):
    copy = begun.with_name("copy")
    shutil.copytree(begun, copy)
    before = (copy / "run.json").read_bytes()
    with pytest.raises(TrainError, match=r"is still there.*--relocated moved.*--relocated copied"):
        resumed(copy)
    assert (copy / "run.json").read_bytes() == before
    run = resumed(copy, "copied")
    assert run.run_id != id_of(begun)
    assert run.record.parent == {"run_id": id_of(begun), "path": str(begun), "step": 3}
    assert id_of(copy) == run.run_id
    again = resumed(copy, "copied")  # as a requeued job repeats its flags
    assert (again.run_id, again.record.parent) == (run.run_id, run.record.parent)
    assert resumed(copy).run_id == run.run_id
    assert resumed(begun).run_id == id_of(begun)


def test_the_user_may_call_a_copy_beside_its_original_moved(begun):
    copy = begun.with_name("copy")
    shutil.copytree(begun, copy)
    assert resumed(copy, "moved").run_id == id_of(begun)
    assert resumed(copy).run_id == id_of(begun)


@pytest.mark.parametrize("how", ["rename", "rename the parent", "copy and remove", "new run in its old place"])
def test_a_folder_that_was_moved_for_certain_goes_on(begun, how, tmp_path, capsys):
    run_id, place = id_of(begun), tmp_path / "two" / "moved"
    place.parent.mkdir()
    if how == "rename the parent":
        place = tmp_path / "three" / "run"
        begun.parent.rename(place.parent)
    elif how == "rename":
        begun.rename(place)
    else:
        shutil.copytree(begun, place)
        shutil.rmtree(begun)
    if how == "new run in its old place":
        assert resumed(begun).run_id != run_id
    run = resumed(place)
    assert (run.run_id, run.record.parent) == (run_id, {})
    assert f"moved here from {begun}; the same run goes on" in capsys.readouterr().out
    resumed(place)
    assert "moved" not in capsys.readouterr().out


def test_a_folder_from_a_place_that_is_not_here_asks(begun, tmp_path, monkeypatch, capsys):
    """A copy from another machine, where the place of before cannot be looked at. In a batch job nobody can answer."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    copy = tmp_path / "copy"
    shutil.copytree(begun, copy)
    shutil.rmtree(begun.parent)
    with pytest.raises(TrainError, match="is not there, or cannot be looked at from here"):
        resumed(copy)
    begun.parent.mkdir()  # on this machine, some other folder has that path; its inode may be the same by chance
    record = Record.from_bytes((copy / "run.json").read_bytes())
    record.place["parent"] = 1
    (copy / "run.json").write_bytes(record.to_bytes())
    with pytest.raises(TrainError, match="is not there, or cannot be looked at from here"):
        resumed(copy)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert resumed(copy).run_id == record.run_id
    assert "the same run goes on (if this is a copy, stop it and pass --relocated copied)" in capsys.readouterr().out


def test_one_folder_with_two_paths_is_no_copy(begun, tmp_path):
    (tmp_path / "link").symlink_to(begun.parent)
    assert resumed(tmp_path / "link" / "run").run_id == id_of(begun)
    record = Record.from_bytes((begun / "run.json").read_bytes())
    assert record.place == Place.of(begun).to_json()


def test_a_run_of_an_older_version_has_no_place_but_its_flag(begun):
    for run_dir, asks in ((str(begun), True), ("run", False)):
        copy = begun.with_name(f"copy-{asks}")
        shutil.copytree(begun, copy)
        record = Record.from_bytes((copy / "run.json").read_bytes())
        record.place = {}
        record.config["run_dir"] = run_dir
        (copy / "run.json").write_bytes(record.to_bytes())
        assert b'"place"' not in record.to_bytes()
        if asks:
            with pytest.raises(TrainError, match="--relocated copied"):
                resumed(copy)
        else:
            assert resumed(copy).run_id == id_of(begun)


def test_inodes_of_64_bits(begun, monkeypatch):
    """Those of Lustre are above 2^53."""
    real = Place.of

    def on_lustre(folder: Path) -> Place:
        place = real(folder)
        return Place(place.path, place.inode + 2**57, 2**64 - 1)

    monkeypatch.setattr(Place, "of", on_lustre)
    run_id = id_of(begun)
    assert resumed(begun).run_id == run_id
    assert resumed(begun).record.place["parent"] == 2**64 - 1
    place = begun.rename(begun.with_name("moved"))
    assert resumed(place).run_id == run_id


@pytest.mark.parametrize("relocated", ["ask", "moved", "copied"])
def test_a_node_that_knows_the_folder_by_another_path_goes_on(begun, relocated):
    """A requeued job repeats its flags there, also `--relocated copied` of its first attempt."""
    run_id, other = id_of(begun), begun.with_name("other-mount")
    begun.rename(other)
    assert resumed(other, relocated).run_id == run_id
    other.rename(begun)
    assert resumed(begun, relocated).run_id == run_id


def test_a_place_that_holds_a_pipe_is_not_read(begun):
    copy = begun.with_name("copy")
    shutil.copytree(begun, copy)
    (begun / "run.json").unlink()
    os.mkfifo(begun / "run.json")
    with pytest.raises(TrainError, match="is not there, or cannot be looked at from here"):
        resumed(copy)


@pytest.mark.slow(area="wandb")
def test_a_copy_trains_as_its_original_and_is_another_wandb_run(data_dir, tmp_path):
    """The real commands: copy a stopped run and finish both. Weights and points are the same, in two W&B runs."""
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["--tracking.wandb", "offline", "--tracking.audio_every", "1000"]
    train([*flags("vae", data_dir, one, *words), "--stop_at", "5"], code=85)
    shutil.copytree(one, two, symlinks=True)
    told = train(flags("vae", data_dir, two, *words), code=1, AUDIO_TRAIN_REFUSAL=str(tmp_path / "refusal"))
    assert len([line for line in told.splitlines() if line.startswith("error")]) == 1
    assert "--relocated copied" in (tmp_path / "refusal").read_text(), "a batch job must end with it"
    train(flags("vae", data_dir, two, *words, "--relocated", "copied"))
    train(flags("vae", data_dir, one, *words))
    for name in ("model.safetensors", "training.safetensors", "optimizer.safetensors"):
        place = f"checkpoints/step-{STEPS:08d}/{name}"
        assert (one / place).read_bytes() == (two / place).read_bytes()
    own = [part for part in parts(two) if (part / f"run-{id_of(two)}.wandb").exists()]
    (rows,) = map(records, own)
    steps = [item["global_step"] for item in history(rows) if "loss/total" in item]
    assert steps == [*range(1, STEPS + 1)] == [row["step"] for row in points(two) if "loss/total" in row]
    configs = [row["config"] for row in rows if "config" in row]
    assert id_of(one) in json.dumps(configs), "the config of the W&B run names the parent"
    assert f"a copy of run {id_of(one)} in {one}, from step 5 on" in train(["status", str(two)])
