"""The preset of a family: it holds where nothing else describes the model, and a run keeps what it began with."""

import pytest
import yaml

from tests.train.conftest import flags
from train.cli import presets as files
from train.cli.default_preset import default_preset, is_named
from train.cli.parser import parse
from train.config import RUNS, flat, settings_of
from train.errors import TrainError
from train.evaluation.report.facts import training_words
from train.runs.run_folder import RunDir

NEEDED = ["--data", "x", "--run-dir", "y"]
FAMILIES = [family for family, kind in RUNS.items() if not kind.unused]


def settings(family: str, *words: str) -> dict:
    return flat(parse([family, *NEEDED, *words])[1])


def preset(family: str) -> dict:
    return flat(yaml.safe_load(files.presets()[family].read_text()))


@pytest.fixture
def other_presets(tmp_path, monkeypatch):
    """The folder of the presets of another version, with one for the VAE."""
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "vae.yaml").write_text("model: {latent: 5, free_nats: 3.0}\noptim: {lr: 0.25}\n")
    monkeypatch.setattr(files, "CONFIGS", folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_file_a_family_has_its_preset(family):
    assert settings(family).items() >= preset(family).items()
    assert settings(family) == settings(family, "--config", family)


@pytest.mark.parametrize("family", FAMILIES)
def test_flags_and_files_without_a_model_override_it(family, tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {batch: 3}\noptim: {lr: 0.5}\n")
    found = settings(family, "--config", str(tmp_path / "mine.yaml"), "--model.trunk.blocks", "7")
    changed = {"data.batch": 3, "optim.lr": 0.5, "model.trunk.blocks": 7}
    assert found.items() >= (preset(family) | changed).items()


@pytest.mark.parametrize("content", ["model: {latent: 5}", "model.latent: 5"])
def test_a_file_with_a_model_replaces_it(content, tmp_path, other_presets):
    (tmp_path / "mine.yaml").write_text(content)
    found = settings("vae", "--config", str(tmp_path / "mine.yaml"))
    assert (found["model.latent"], found["model.free_nats"]) == (5, 0.0)
    assert found["optim.lr"] != 0.25


def test_a_prior_has_its_defaults():
    assert default_preset("prior", "") == ""
    assert parse(["prior", *NEEDED])


def test_a_run_keeps_what_it_began_with(straight, data_dir, other_presets):
    """A version with another preset resumes the run as it is. A new run gets the new preset."""
    folder = straight("vae")
    words = flags("vae", data_dir, folder)
    at = words.index("--config")
    config = parse([*words[:at], *words[at + 2 :]])[1]
    run = RunDir.open(folder)
    assert (config.model.latent, config.model.free_nats) == (8, 0.0)
    assert config.optim.lr == run.config["optim.lr"] != 0.25
    assert RunDir.create_or_resume(config, "vae", run.data_fingerprint).run_id == run.run_id
    assert settings("vae")["optim.lr"] == 0.25
    assert parse([*words[:at], *words[at + 2 :], "--model.free_nats", "9"])[1].model.free_nats == 9


@pytest.mark.parametrize("family", FAMILIES)
def test_a_preset_names_only_what_a_run_keeps(family):
    assert all(is_named(key) for key in preset(family))


@pytest.mark.parametrize("name", [name for name in files.presets() if not name.startswith("prior")])
def test_the_command_of_a_report_gives_the_same_settings(name, tmp_path):
    """Of every preset, with a learning rate that is the default without a preset."""
    family = next(family for family in ("hvae", "vqvae", "vae") if family in name)
    more = ["--data", "x", "--run-dir", str(tmp_path / "run"), "--optim.lr", "0.001"]
    config = parse([family, "--config", name, *more])[1]
    words = training_words(family, settings_of(config))
    assert words[:4] == ["python", "-m", "train", family]
    assert settings_of(parse(words[3:])[1]) == settings_of(config)


def test_an_error_of_flags_for_another_kind_of_model_names_the_preset():
    with pytest.raises(TrainError, match=r"set levels.bands to 0 \(the flags change the preset vae; .* pass --config"):
        settings("vae", "--model.representation.kind", "mel")
    with pytest.raises(TrainError, match=r"whole number$"):
        settings("vae", "--model.latent", "many")


def test_a_record_of_a_stranger_is_one_line(straight, tmp_path, monkeypatch):
    known = RunDir.open(straight("vae")).config
    strange = {"model.trunk.strides": [1] * 100_000, "model.representation.kind": "\ud800"}
    problems = ["run.json: model.trunk.strides has 100,000 entries", "unprintable characters"]
    for (key, value), problem in zip(strange.items(), problems, strict=True):
        monkeypatch.setattr("train.cli.default_preset.settings_to_resume", lambda *_, k=key, v=value: known | {k: v})
        with pytest.raises(TrainError, match=problem) as caught:
            default_preset("vae", str(tmp_path))
        assert "\n" not in str(caught.value)
    monkeypatch.setattr("train.cli.default_preset.settings_to_resume", lambda *_: known | {"model.depth": 3})
    assert "depth" not in default_preset("vae", str(tmp_path))


def test_a_folder_that_is_no_run_of_the_family_has_no_say(straight, tmp_path, other_presets):
    file = str(other_presets / "vae.yaml")
    (tmp_path / "run.json").write_text("{}")
    for folder in (tmp_path, straight("vqvae"), tmp_path / "none"):
        assert default_preset("vae", str(folder)) == file
