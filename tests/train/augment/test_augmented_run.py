"""Real trainings of windows of longer chunks with all changes: exact after a stop, the same on two processes."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import audiovae
from shards import Cursor, Split
from shards.building.build import build
from shards.reading.windows import windows_of
from tests.train.conftest import SAMPLES, flags, points, train
from train.__main__ import run as main_run
from train.augment.settings import AUGMENTATIONS, OF_STEREO
from train.cli.parser import parse
from train.cli.verify_resume import compare
from train.errors import TrainError
from train.training.attempt import cropped
from train.training.batches import BatchFeed
from train.training.meter import Meter

STEPS = 6
MONO = [name for name in AUGMENTATIONS if name not in OF_STEREO]
CHANGES = [word for name in MONO for word in (f"--augment.{name}", "0.5")]
MORE = ["--data.crop", str(SAMPLES), *CHANGES, "--optim.steps", str(STEPS), "--tracking.samples", "true"]
MORE += ["--checkpoint.every", "100", "--tracking.audio_every", "100"]


@pytest.fixture(scope="session")
def long_chunks(once, data_dir) -> Path:
    """The tunes in chunks of 0.3 s, three times what the models of the tests take."""

    def make(folder: Path) -> None:
        build(data_dir.parent / "tunes", folder / "set", seconds=0.3, valid=0.25, workers=1)

    return once("long-chunks", make) / "set"


def words(data: Path, run: Path) -> list[str]:
    return flags("vae", data, run, *MORE)


@pytest.fixture(scope="session")
def augmented(once, long_chunks) -> Path:
    """A run without interruption; read it only."""
    return once("augmented", lambda folder: train(words(long_chunks, folder / "run"))) / "run"


def test_a_stop_changes_no_bit_and_two_processes_take_the_same(augmented, long_chunks, tmp_path):
    train([*words(long_chunks, tmp_path / "one"), "--stop_at", "2"], code=85)
    train(words(long_chunks, tmp_path / "one"))
    assert all(compare(augmented, tmp_path / "one", exact=True).values())
    train(words(long_chunks, tmp_path / "two"), processes=2)
    assert all(compare(augmented, tmp_path / "two", exact=False).values())


def fed(words: list[str], data: Path, steps: int) -> torch.Tensor:
    """What the model takes in the last of some steps, by the feed of the training loop: [n, T]."""
    _, config = parse(words)
    learner = SimpleNamespace(step=0, cursor=Cursor(), mixture=None)
    engine = SimpleNamespace(rank=0, world=1, local_world=1, device=torch.device("cpu"))
    context = SimpleNamespace(config=config, engine=engine, learner=learner, train_split=Split.open(data, "train"))
    with BatchFeed(context, Meter()) as feed:  # type: ignore[arg-type]
        for learner.step in range(steps):
            batch = next(feed)
            audio = feed.prepared(batch, engine.device, slice(None)).squeeze(1)
    return audio


def test_which_samples_writes_what_the_model_took(augmented, long_chunks, tmp_path, capsys):
    assert main_run(["which-samples", str(augmented), "--step", "5", "--json", "--wav", str(tmp_path / "wav")]) == 0
    rows = json.loads(capsys.readouterr().out)["chunks"]
    files = [soundfile.read(file, dtype="int16")[0] for file in sorted((tmp_path / "wav").iterdir())]
    audio = fed(words(long_chunks, tmp_path / "run"), long_chunks, 5)
    assert audio.shape == (6, SAMPLES)
    assert np.abs(np.stack(files) - 32768 * audio.numpy()).max() <= 1
    split = Split.open(long_chunks, "train")
    whole = split.read(np.array([row["chunk"] for row in rows]))
    starts = split.keys()[1]
    untouched = 0
    for row, record, file in zip(rows, whole.numpy(), files, strict=True):
        assert 0 <= row["window"] <= 2 * SAMPLES
        assert row["start_s"] == pytest.approx((starts[row["chunk"]] + row["window"]) / 22050)
        untouched += np.array_equal(record[row["window"] : row["window"] + SAMPLES], file)
    assert untouched < 6, "none was changed"
    assert main_run(["which-samples", str(augmented), "--step", "5"]) == 0
    assert "windows of 2,205 samples" in capsys.readouterr().out


def test_measures_are_those_of_consecutive_windows(augmented, long_chunks, tmp_path, capsys):
    model = audiovae.load(augmented / "model")
    assert model.samples == SAMPLES
    assert model.facts is not None
    held_out = windows_of(Split.open(long_chunks, "valid"), SAMPLES)
    assert model.facts.measured_on == {
        "split": "valid",
        "chunks": len(held_out),
        "fingerprint": held_out.fingerprint,
        "when": "Measured at the end of training.",
    }
    assert (model.facts.settings["data.crop"], model.facts.settings["augment.gain"]) == (SAMPLES, 0.5)
    assert main_run(["evaluate", str(augmented), "--examples", "1", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["chunks"] == len(held_out)
    last = points(augmented)[-1]
    assert found["reconstruction"]["si_sdr"] == pytest.approx(last["valid/si_sdr"], abs=1e-3)


def test_what_cannot_be_cropped_is_refused_in_one_line(data_dir, tmp_path):
    split = Split.open(data_dir, "train")
    _, config = parse(flags("vae", data_dir, tmp_path / "run", "--data.crop", "2206"))
    with pytest.raises(TrainError, match=r"data\.crop is 2,206 samples, and the chunks of .* have 2,205: lower it, or"):
        cropped(config, split)
    config.data.crop = SAMPLES
    assert cropped(config, split) is split
    with pytest.raises(TrainError, match=r"data\.crop is for autoencoders"):
        parse(["prior", "--data", "d", "--run-dir", "r", "--data.crop", "100"])
    with pytest.raises(TrainError, match=r"augment\.gain"):
        parse(["prior", "--data", "d", "--run-dir", "r", "--augment.gain", "0.5"])
    with pytest.raises(TrainError, match=r"augment\.gain"):
        parse(flags("vae", data_dir, tmp_path / "run", "--augment.gain", "1.5"))
