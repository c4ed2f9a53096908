"""The preset of a family: it holds where nothing else describes the model, and a run keeps what it began with."""

import pytest
import yaml

from tests.train.conftest import flags
from train.cli import presets as files
from train.cli.default_preset import default_preset
from train.cli.parser import parse
from train.config import RUNS, flat
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


def test_a_folder_that_is_no_run_of_the_family_has_no_say(straight, tmp_path, other_presets):
    file = str(other_presets / "vae.yaml")
    (tmp_path / "run.json").write_text("{}")
    for folder in (tmp_path, straight("vqvae"), tmp_path / "none"):
        assert default_preset("vae", str(folder)) == file
