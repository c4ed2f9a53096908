"""A real training on stereo: exact after a stop, the same on two processes, evaluated, encoded and heard."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import audiovae
from shards.building.build import build
from tests.train.conftest import RATE, SAMPLES, flags, points, train, tune
from train.cli.verify_resume import compare
from train.errors import TrainError
from train.optim.snapshot import Snapshot
from train.training import attempt

MORE = ["--optim.steps", "6", "--checkpoint.every", "3", "--tracking.samples", "true", "--augment.swap", "0.5"]


@pytest.fixture(scope="session")
def stereo_data(once) -> Path:
    """Shards of four tunes with another one on the right, one of them held out."""

    def make(folder: Path) -> None:
        (folder / "tunes").mkdir()
        for seed in range(4):
            sides = np.stack([tune(2.0, seed) + 0.5 * tune(2.0, seed + 9), tune(2.0, seed)], 1)
            soundfile.write(folder / "tunes" / f"tune-{seed}.wav", sides / 1.5, RATE)
        build(folder / "tunes", folder / "set", samples=SAMPLES, hop=SAMPLES, valid=0.25, workers=1, channels=2)

    return once("stereo-data", make) / "set"


@pytest.fixture(scope="session")
def stereo_run(once, stereo_data) -> Path:
    """A run without interruption; read it only."""
    return once("stereo", lambda folder: train(flags("vae", stereo_data, folder / "run", *MORE))) / "run"


def test_a_stop_changes_nothing_on_two_processes(stereo_run, stereo_data, tmp_path):
    train([*flags("vae", stereo_data, tmp_path / "run", *MORE), "--stop_at", "2"], code=85)
    train(flags("vae", stereo_data, tmp_path / "run", *MORE), processes=2)
    assert all(compare(stereo_run, tmp_path / "run", exact=False).values())
    row = [row for row in points(stereo_run) if "valid/mel" in row][-1]
    assert {
        f"valid/{channel}_{name}" for channel in ("mid", "side") for name in ("si_sdr", "mel", "level")
    } <= row.keys()
    assert "valid/left_mel" not in row
    assert audiovae.load(stereo_run).audio_channels == 2


def test_an_evaluation_tells_the_channels_apart(stereo_run, stereo_data, tmp_path):
    printed = train(["evaluate", str(stereo_run), "--out", str(tmp_path / "report"), "--examples", "1"])
    assert "channel: side" in printed
    summary = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert summary["channels"].keys() == {"left", "right", "mid", "side"}
    assert all(row["mel"] > 0 and row["level"] is not None for row in summary["channels"].values())
    assert summary["floors"]["mono of the recordings"]["si_sdr"] > 0
    passages = {row["kind"]: row for row in summary["passages"]["rows"]}
    assert passages["model"]["side_mel"] > 0
    assert abs(passages["opus"]["side_level"]) < 40
    files = sorted((tmp_path / "report" / "audio").glob("*.wav"))
    assert files
    assert {soundfile.info(file).channels for file in files} == {2}
    assert "left_mel" in (tmp_path / "report" / "metrics.csv").read_text().splitlines()[0]
    train(["encode", str(stereo_run), str(stereo_data), str(tmp_path / "latents"), "--seconds", "0.3"])
    assert json.loads((tmp_path / "latents" / "dataset.json").read_text()).get("channels", 1) == 1


def test_what_does_not_fit_is_one_line(stereo_run, data_dir, stereo_data, tmp_path):
    """Mono where stereo is needed, and the other way round."""
    words = flags("vae", data_dir, tmp_path / "run", *MORE)
    assert "augment.swap is 0.5, and the chunks of" in train(words, code=1)
    assert not (tmp_path / "run" / "checkpoints").exists()
    both = flags("vae", f"{data_dir} + {stereo_data}", tmp_path / "mixed")
    assert "the data sets differ in their channels: 1 in set, 2 in set-2" in train(both, code=1)
    printed = train(["evaluate", str(stereo_run), "--data", str(data_dir), "--out", str(tmp_path / "r")], code=1)
    assert "but the model was trained on 2205 samples at 22050 Hz in stereo" in printed
    printed = train(["encode", str(stereo_run), str(data_dir), str(tmp_path / "latents")], code=1)
    assert "recordings in mono, but the model was trained in stereo; build the data with --channels 2" in printed


def test_a_run_does_not_go_on_with_other_channels(monkeypatch, tmp_path):
    config = {"trunk": {"strides": [21, 5], "channels": [8, 8], "blocks": 1, "kernel": 3}}
    models = [audiovae.build("vae", config, SAMPLES, RATE, channels) for channels in (1, 2)]
    engine = SimpleNamespace(world=1, on_main=lambda make: make())
    monkeypatch.setattr(attempt.checkpoint, "newest_intact", lambda folder: folder / "step")
    monkeypatch.setattr(attempt.checkpoint, "load", lambda _: Snapshot(models[0].state_dict(), {}, {}, 0))
    run = SimpleNamespace(path=tmp_path)
    assert attempt.newest_state(run, engine, models[0]) is not None
    with pytest.raises(TrainError, match=r"other channels than those of the data .* is \[8, 1, 42\] there and \[8, 2,"):
        attempt.newest_state(run, engine, models[1])
