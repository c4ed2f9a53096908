"""A run on mel spectrograms: statistics are computed once, and checkpoints keep them."""

import torch

import audiovae
from shards import Split
from tests.train.conftest import NO_LEVELS, flags, points, train
from train.evaluation.measuring.heldout import spread_audio

MEL = {"kind": "mel", "bands": "40", "n_fft": "512", "hop": "62", "multiple": "42", "iterations": "2"}


def test_a_resumed_run_keeps_the_statistics_it_began_with(data_dir, tmp_path):
    more = [word for name, value in MEL.items() for word in (f"--model.representation.{name}", value)]
    more += ["--model.trunk.strides", "[3,2]", "--optim.steps", "4", "--checkpoint.every", "2", *NO_LEVELS]
    train(flags("vae", data_dir, tmp_path / "run", *more, "--stop_at", "2"), code=85)
    said = train(flags("vae", data_dir, tmp_path / "run", *more))
    assert "from step 2" in said
    model = audiovae.load(tmp_path / "run")
    fresh = audiovae.build("vae", model.config, model.samples, model.rate)
    assert not torch.equal(model.representation.mean, fresh.representation.mean)
    split = Split.open(str(data_dir), "train")
    fresh.calibrate(spread_audio(split, 512, torch.device("cpu")))
    split.close()
    torch.testing.assert_close(model.representation.mean, fresh.representation.mean)
    torch.testing.assert_close(model.representation.std, fresh.representation.std)
    assert "valid/mel" in points(tmp_path / "run")[-1]
