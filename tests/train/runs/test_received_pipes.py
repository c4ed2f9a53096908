"""A pipe, a folder or a link to nowhere in the place of any file of a run and its data: no command waits for it."""

import os
import shutil
import signal
from pathlib import Path

import pytest

import audiovae
from audiovae import ModelError
from shards import DataError, Split
from shards.__main__ import main as shards_main
from tests.train.conftest import copy_evaluated
from train.__main__ import run as main_run
from train.errors import TrainError
from train.runs import checkpoint
from train.runs.run_folder import RunDir

PART = "wandb/offline-run-20260101_000000-id/run-{run_id}.wandb"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, straight, data_dir):
    """A finished run with a report, a part for W&B and its data, in one folder; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    copy_evaluated(folder, straight("vae"), data_dir)
    part = folder / "run" / PART.format(run_id=RunDir.open(folder / "run").run_id)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"")
    (folder / "run" / "wandb" / "steps.json").write_text(
        '{"offline-run-20260101_000000-id": {"bytes": 0, "steps": []}}'
    )
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    """A copy to spoil; the test ends when something waits."""
    shutil.copytree(whole, tmp_path / "whole")
    handler = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for a pipe"))
    signal.alarm(400)
    yield tmp_path / "whole"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)


def spoil(place: Path, kind: str) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/nowhere/at/all")


def ends_in_one_line(words: list[str], capsys) -> str:
    """The error of a command, which may also succeed."""
    capsys.readouterr()
    code = main_run(words)
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in printed.err
    assert len(errors) == code
    assert code in (0, 1)
    return "".join(errors)


def places(copy: Path) -> dict[str, Path]:
    """One file of each kind, by its name."""
    files = {str(path.relative_to(copy)): path for path in sorted(copy.rglob("*")) if path.is_file()}
    newest = max(path.name for path in (copy / "run" / "checkpoints").glob("step-*"))
    return {
        name.replace(newest, "NEWEST"): path
        for name, path in files.items()
        if "audio/" not in name and ("step-" not in name or newest in name)
    }


def commands(copy: Path, name: str) -> list[list[str]]:
    """The commands that open a file."""
    run, data = str(copy / "run"), ["--data", str(copy / "set")]
    if name.startswith("set/") or "report/" in name or "/model/" in name:
        compared = [run, str(copy / "other"), "--out", str(copy / "out"), "--examples", "1"]
        # Other codes open the data once more, and no file of the run.
        codes = [] if name.startswith("set/") else ["--no-yardsticks"]
        return [
            ["which-samples", run, "--step", "3", *data],
            ["compare", *compared, *data],
            *([["evaluate", run, *data, "--examples", "1", *codes]] if "report/" not in name else []),
        ]
    return [["status", run], ["status", run, "--json"], ["sync", run, "--prepare"]]


# One for each command; the walk over all files is slow.
FEW = {"run/metrics.jsonl", "set/dataset.json", "run/wandb/steps.json"}


@pytest.mark.parametrize(
    ("kind", "few"),
    [
        ("pipe", True),
        pytest.param("pipe", False, marks=pytest.mark.slow(area="damage")),
        pytest.param("link", False, marks=pytest.mark.slow(area="damage")),
    ],
)
def test_no_command_waits(kind, few, copy, whole, capsys):
    shutil.copytree(copy / "run", copy / "other")
    names = sorted(places(whole))
    assert set(names) >= FEW
    for name in sorted(FEW) if few else names:
        place = places(copy).get(name)
        if place is None:
            continue
        aside = place.with_name(f"{place.name}.aside")
        shutil.copy(place, aside)
        spoil(place, kind)
        for words in commands(copy, name):
            ends_in_one_line(words, capsys)
        if place.exists() or place.is_symlink():
            place.unlink()
        aside.rename(place)


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "config.json", "model.safetensors", "run.json"])
def test_a_checkpoint_with_a_pipe_is_not_loaded(name, copy):
    (newest, *_) = checkpoint.all_checkpoints(copy / "run" / "checkpoints")
    spoil(newest / name, "pipe")
    assert checkpoint.damage(newest) == f"{name} is no regular file"
    if name in ("manifest.json", "state.json", "model.safetensors"):
        with pytest.raises((TrainError, OSError)):
            checkpoint.load(newest)


def test_a_run_is_not_resumed_from_pipes(copy):
    for folder in checkpoint.all_checkpoints(copy / "run" / "checkpoints"):
        spoil(folder / "training.safetensors", "pipe")
    with pytest.raises(TrainError, match="no checkpoint is intact"):
        checkpoint.newest_intact(copy / "run" / "checkpoints", set_aside=False)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "facts.json", "encoder.safetensors"])
def test_a_model_with_a_pipe(name, copy):
    spoil(copy / "run" / "model" / name, "pipe")
    if name in ("facts.json", "encoder.safetensors"):  # not needed
        assert audiovae.load(copy / "run" / "model").facts is None or name != "facts.json"
    else:
        with pytest.raises(ModelError, match=f"no {name} in this folder"):
            audiovae.load(copy / "run" / "model")


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
@pytest.mark.parametrize("name", ["dataset.json", "shard"])
def test_data_with_a_pipe(name, kind, copy, capsys):
    place = copy / "set" / name if name != "shard" else next(iter(sorted((copy / "set").glob("*.tar"))))
    spoil(place, kind)
    for command in ("inspect", "verify"):
        assert shards_main([command, str(copy / "set")]) == int(name == "dataset.json" or command == "verify")
        assert capsys.readouterr().err.count("\n") <= 1
    if name == "shard":
        split = "train" if "train" in place.name else "valid"
        with pytest.raises(DataError, match=r"is not a regular file|cannot be read"):
            Split.open(copy / "set", split)
