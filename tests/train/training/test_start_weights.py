"""A new run that starts from another model: what it takes, what stays frozen, and that it resumes exactly."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

import audiovae
from audiovae.models.parts import parts_of
from tests.train.conftest import STEPS, flags, points, train
from tests.train.training.test_run import assert_same_state
from train.cli.parser import parse
from train.config import OptimConfig, StartConfig, settings_of
from train.parallel.strategy import adamw, set_rate
from train.runs import checkpoint
from train.runs.record import Record
from train.runs.run_folder import RunDir


def without_model(words: list[str]) -> list[str]:
    """The flags of a run without the settings of its model and the weights of its losses."""
    pairs = zip(words[1::2], words[2::2], strict=True)
    return [words[0], *(word for pair in pairs if not pair[0].startswith(("--model", "--weights")) for word in pair)]


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("family", ["vae", "hvae", "vqvae"])
def test_a_run_starts_from_a_model_as_it_is(family, data_dir, straight, tmp_path):
    """Its settings come along; the held-out measures before the first step are those of the model."""
    source, run = straight(family), tmp_path / "run"
    words = [*without_model(flags(family, data_dir, run)), "--start_from", str(source), "--stop_at", "1"]
    said = train(words, code=85)
    assert f"starts from {source}/model" in said
    assert "random: nothing" in said
    assert points(run)[0]["valid/si_sdr"] == pytest.approx(points(source)[-1]["valid/si_sdr"], abs=1e-4)
    record, there = RunDir.open(run), RunDir.open(source)
    of_model = {key: value for key, value in there.config.items() if key.startswith(("model.", "weights."))}
    assert {key: record.config[key] for key in of_model} == of_model
    assert record.record.started_from["fingerprint"] == audiovae.fingerprint(audiovae.load(source))


def test_frozen_parts_stay_and_a_resumed_run_is_the_same(data_dir, straight, tmp_path):
    """Also when the model that it started from is gone."""
    source, run, other = tmp_path / "source", tmp_path / "run", tmp_path / "other"
    shutil.copytree(straight("vqvae") / "model", source)
    more = ["--start_from", str(source), "--optim.freeze", "[encoder, quantizer]", "--optim.part_lr", "[decoder:0.5]"]
    train([*without_model(flags("vqvae", data_dir, other)), *more])
    train([*without_model(flags("vqvae", data_dir, run)), *more, "--stop_at", "5"], code=85)
    before = weights(source)
    shutil.rmtree(source)
    said = train([*without_model(flags("vqvae", data_dir, run)), *more])
    assert "starts from" not in said
    assert_same_state(run, other)
    after = weights(run / "model")
    frozen = [name for name in after if name.startswith(("encoder.", "quantizer."))]
    assert frozen
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    assert any(not torch.equal(after[name], before[name]) for name in after if name.startswith("decoder."))
    card = json.loads((run / "model" / "facts.json").read_text())
    assert card["settings"]["started from the model"] == RunDir.open(run).record.started_from["fingerprint"]
    assert card["steps"] == STEPS


def test_two_processes_start_alike_from_part_of_a_checkpoint(data_dir, straight, tmp_path):
    """The others of its parts are random."""
    source = checkpoint.all_checkpoints(straight("vae") / "checkpoints")[-1]
    more = ["--start_from", str(source), "--start_from.only", "[encoder]", "--optim.steps", "2"]
    runs = [tmp_path / "one", tmp_path / "two"]
    said = [train([*without_model(flags("vae", data_dir, run)), *more], number) for number, run in enumerate(runs, 1)]
    assert all("taken: " in text and "encoder (" in text and "random: decoder (" in text for text in said)
    first = [points(run)[0]["valid/si_sdr"] for run in runs]
    assert first[0] == pytest.approx(first[1], abs=1e-3)
    assert first[0] != pytest.approx(points(straight("vae"))[-1]["valid/si_sdr"], abs=0.1)


def test_what_does_not_fit_is_one_line(data_dir, straight, tmp_path):
    run = tmp_path / "run"

    def error(family: str, *more: str) -> str:
        words = flags(family, data_dir, run)
        said = train([*(without_model(words) if "--start_from" in more else words), *more], code=1)
        assert "Traceback" not in said
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        return line

    source = str(straight("vae"))
    assert "holds a model of another family, vae" in error("vqvae", "--start_from", source)
    assert "leave out the settings of the model" in error("vae", "--start_from", source, "--model.latent", "12")
    assert "holds no model; pass a model folder" in error("vae", "--start_from", str(tmp_path / "nothing"))
    assert "there is no part 'encodr'" in error("vae", "--start_from", source, "--start_from.only", "[encodr]")
    assert "optim.freeze: there is no part 'x'" in error("vae", "--optim.freeze", "[x]")
    assert "optim.part_lr: there is no part 'x'" in error("vae", "--optim.part_lr", "[x:2]")
    parts = parts_of(audiovae.load(source))
    assert "nothing is left to train" in error(
        "vae", "--start_from", source, "--optim.freeze", str(parts).replace("'", "")
    )
    assert "optim.freeze [quantizer]: the codebooks have not started yet" in error(
        "vqvae", "--optim.freeze", "[quantizer]"
    )
    damaged = tmp_path / "damaged"
    shutil.copytree(straight("vae") / "model", damaged)
    (damaged / "model.safetensors").write_bytes((damaged / "model.safetensors").read_bytes()[:-1] + b"\x01")
    assert "damaged" in error("vae", "--start_from", str(damaged))


@pytest.mark.parametrize("text", ["encoder", "encoder:0", "encoder:x", ":1", "encoder:nan", "encoder:-1", "a:inf"])
def test_a_factor_that_is_none(text):
    with pytest.raises(ValueError, match="is not PART:FACTOR"):
        OptimConfig(part_lr=[text])


def test_the_most_specific_part_counts():
    model = torch.nn.Module()
    model.encoder = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    model.decoder = torch.nn.Linear(2, 2, bias=False)
    optimizer = adamw(model, OptimConfig(part_lr=["encoder.1:0.5", "encoder:0.1"]))
    set_rate(optimizer.param_groups, 2.0)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert [rates[id(parameter)] for parameter in model.parameters()] == [0.2, 1.0, 2.0]
    with pytest.raises(ValueError, match="a part is named twice"):
        OptimConfig(part_lr=["encoder:0.1", "encoder:0.2"])


def test_a_frozen_part_has_no_rate():
    for part in "encoder", "encoder.1":
        with pytest.raises(ValueError, match=rf"names {part}, which optim.freeze \[encoder\] keeps"):
            OptimConfig(part_lr=[f"{part}:0.1"], freeze=["decoder", "encoder"])
    OptimConfig(part_lr=["encoder:0.1", "encoders:0.1"], freeze=["encoder.1", "encode"])


def test_parts_need_a_source():
    with pytest.raises(ValueError, match=r"start_from\.only has no effect"):
        StartConfig(only=["encoder"])


@pytest.mark.parametrize("text", ["start_from: {{path: {}}}\nrun_dir: {}\n", "start_from.path: {}\nrun_dir: {}\n"])
def test_a_settings_file_may_name_the_source_and_the_run(text, tmp_path):
    """Settings of the model come from the source; once the run can be resumed, the source may be gone."""
    trunk = {"strides": [21, 5], "channels": [8, 8], "blocks": 1}
    source, run, file = tmp_path / "source", tmp_path / "run", tmp_path / "settings.yaml"
    audiovae.save(audiovae.build("vae", {"trunk": trunk, "latent": 9}, 2205, 22050), source)
    file.write_text(text.format(source, run))
    words = ["vae", "--data", "x", "--config", str(file)]
    _, settings = parse(words)
    assert settings.model.latent == 9
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    (run / "run.json").write_bytes(Record("one", "vae", settings_of(settings), "f").to_bytes())
    shutil.rmtree(source)
    assert parse(words)[1] == settings
