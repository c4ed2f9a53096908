import errno
import json
import os
import pickle
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, awake, change_config, make, noise, start_codebooks, tones

import audiovae
from audiovae import ModelError
from audiovae.saved.model_folder import describe, seal


@pytest.fixture
def saved(tmp_path):
    """A function that saves a tiny model of a family and gives its folder."""

    def save(family: str = "vae"):
        audiovae.save(make(family), tmp_path / family)
        return tmp_path / family

    return save


def error_of(path) -> str:
    """The message of the ModelError that loading raises: one line that names the path."""
    with pytest.raises(ModelError) as caught:
        audiovae.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert ";" in message, "no remedy"
    return message


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_model_is_the_saved_one(family, tmp_path):
    model, audio = awake(family).eval(), tones(2)
    audiovae.save(model, tmp_path / "deep" / "folder")
    loaded = audiovae.load(tmp_path / "deep" / "folder")
    assert not loaded.training
    assert describe(loaded) == describe(model)
    assert loaded.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert torch.equal(loaded.reconstruct(audio), model.reconstruct(audio))
    assert torch.equal(loaded.sample(2, 1.0, noise(2)), model.sample(2, 1.0, noise(2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_lie_beside_the_whole(family, saved):
    folder = saved(family)
    parts = {"encoder", "decoder", "representation"} | ({"quantizer"} if family == "vqvae" else set())
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"} | {
        f"{part}.safetensors" for part in parts
    }
    other = make(family, seed=1)
    for part in parts:
        getattr(other, part).load_state_dict(load_file(folder / f"{part}.safetensors"))
    for name, value in make(family).state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_given_weights_are_saved_in_place_of_the_models_own(tmp_path):
    model = make("vae")
    doubled = {name: 2 * value for name, value in model.state_dict().items()}
    audiovae.save(model, tmp_path, doubled)
    assert all(torch.equal(value, doubled[name]) for name, value in audiovae.load(tmp_path).state_dict().items())
    encoder = load_file(tmp_path / "encoder.safetensors")
    assert torch.equal(encoder["mean.weight"], doubled["encoder.mean.weight"])


def test_a_run_folder_is_loaded_from_its_model(saved):
    folder = saved("vae")
    folder.rename(folder.parent / "model")
    loaded = audiovae.load(folder.parent)
    assert torch.equal(loaded.state_dict()["encoder.mean.weight"], make("vae").state_dict()["encoder.mean.weight"])


def test_started_codebooks_are_in_use_after_loading(tmp_path):
    model = make("vqvae")
    audiovae.save(model, tmp_path / "before")
    start_codebooks(model, tones(4))
    audiovae.save(model, tmp_path / "after")
    assert not audiovae.load(tmp_path / "before").quantizer.quantizing
    assert audiovae.load(tmp_path / "after").quantizer.quantizing


def test_a_missing_folder(tmp_path):
    assert "no such folder; pass a model folder" in error_of(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file(saved, name):
    folder = saved()
    (folder / name).unlink()
    assert f"no {name} in this folder" in error_of(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\xff" * 64 + data[64:],
    ],
    ids=["truncated", "empty", "overwritten"],
)
def test_damaged_weights(saved, damage):
    folder = saved()
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    assert f"{file}: damaged" in error_of(folder)


def test_weights_of_another_shape(saved, tmp_path):
    folder = saved("vae")
    (folder / "model.safetensors").write_bytes((saved("hvae") / "model.safetensors").read_bytes())
    assert "it is not what was saved" in error_of(folder)
    seal(folder)
    assert "its shapes do not match config.json" in error_of(folder)


@pytest.mark.parametrize("change", [{"format": 99}, {"family": "gan"}, {"family": None}])
def test_another_format_or_family(saved, change):
    folder = saved()
    change_config(folder, **change)
    message = error_of(folder)
    assert str(next(iter(change.values()))) in message
    assert "load it with the version of audiovae that wrote it" in message


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", '{"format": 1}', "\x00\xff"])
def test_a_config_that_is_no_description(saved, text):
    folder = saved()
    (folder / "config.json").write_text(text, encoding="latin-1")
    assert "not a model description" in error_of(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"family": ["vae"]},
        {"samples": "many"},
        {"samples": None},
        {"rate": {}},
        {"samples": 2204},
        {"config": 5},
        {"config": "vae"},
        {"config": None},
        {"config": [1, 2]},
        {"config": {"trunk": None}},
        {"config": {"trunk": 5}},
        {"config": {"trunk": "deep"}},
        {"config": {"trunk": {"strides": "15", "channels": [8, 8]}}},
        {"config": {"trunk": {"strides": ["15", "7"], "channels": [8, 8]}}},
        {"config": {"trunk": {"strides": [15, 7], "channels": [8, 8.5]}}},
        {"config": {"trunk": {"strides": [15, 7]}}},
        {"config": {"latent": "48"}},
        {"config": {"latnt": 48}},
    ],
    ids=str,
)
def test_a_config_of_wrong_types(saved, change):
    folder = saved()
    if isinstance(change.get("config"), dict):
        change = {"config": json.loads((folder / "config.json").read_text())["config"] | change["config"]}
    change_config(folder, **change)
    assert "not a model description" in error_of(folder)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_nothing_is_unpickled(saved, tmp_path, name):
    folder, sprung = saved(), tmp_path / "sprung"
    trap = pickle.dumps(Trap(str(sprung)))
    (folder / name).write_bytes(trap)
    error_of(folder)
    torch.save({"weight": Trap(str(sprung))}, folder / name)
    error_of(folder)
    assert not sprung.exists()
    pickle.loads(trap).close()
    assert sprung.exists(), "the trap itself works"


@pytest.mark.parametrize("level", ["rms", "peak"])
def test_a_model_knows_the_level_of_its_training(tmp_path, level):
    model = make("vae")
    model.level = level
    audiovae.save(model, tmp_path)
    assert audiovae.load(tmp_path).level == level
    assert ("level" in json.loads((tmp_path / "config.json").read_text())) == (level == "rms")


@pytest.mark.parametrize("change", [{"rate": 0}, {"samples": -2205}, {"level": "loud"}])
def test_a_description_that_cannot_be_is_one_line(tmp_path, change):
    audiovae.save(make("vae"), tmp_path)
    change_config(tmp_path, **change)
    with pytest.raises(audiovae.ModelError, match="not a model description"):
        audiovae.load(tmp_path)


def test_what_newer_versions_add_leaves_the_fingerprint(tmp_path):
    """Settings at their defaults, a gain of 1, statistics of training: as if it had been saved before them."""
    model = make("vqvae")
    before = audiovae.fingerprint(model)
    audiovae.save(model, tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    for name in ("balance", "gradient", "dropout"):
        del about["config"]["quantizer"][name]
    del about["config"]["representation"]
    (tmp_path / "config.json").write_text(json.dumps(about))
    weights = load_file(tmp_path / "model.safetensors")
    for name in ("representation.gain", "quantizer.updates", "quantizer.reference", "quantizer.restarts"):
        del weights[name]
    save_file(weights, tmp_path / "model.safetensors")
    seal(tmp_path)
    assert audiovae.fingerprint(audiovae.load(tmp_path)) == before
    model.quantizer.codes[0, 0, 0] += 1
    assert audiovae.fingerprint(model) != before
    assert audiovae.fingerprint(make("vqvae", seed=1)) != before


def test_a_model_saved_over_another_has_none_of_its_facts(tmp_path):
    audiovae.save(make("vae"), tmp_path, facts=audiovae.Facts(name="mine", steps=9))
    assert audiovae.load(tmp_path).facts.name == "mine"
    audiovae.save(make("vae", seed=1), tmp_path)
    assert audiovae.load(tmp_path).facts is None


def test_another_family_is_not_saved_over(tmp_path):
    audiovae.save(make("vae"), tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ModelError, match="another family, vae; choose another folder"):
        audiovae.save(make("vqvae"), tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_full_disk_leaves_the_earlier_model(tmp_path, monkeypatch):
    first, second = make("vae"), make("vae")
    audiovae.save(first, tmp_path)
    real = audiovae.saved.model_folder.save_file

    def full(tensors, file):
        if file.name.startswith("decoder"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, file)

    monkeypatch.setattr(audiovae.saved.model_folder, "save_file", full)
    for folder in (tmp_path, tmp_path / "new" / "one"):
        with pytest.raises(ModelError, match=r"cannot be written \(No space left"):
            audiovae.save(second, folder)
    assert audiovae.fingerprint(audiovae.load(tmp_path)) == audiovae.fingerprint(first)
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("moves", range(6))
def test_killed_while_saving_over_another_there_is_one_model_or_none(moves, tmp_path, monkeypatch):
    """Of another shape: the weights of one would not fit the description of the other."""
    first, second = make("vae"), make("vae", latent=32)
    audiovae.save(first, tmp_path)
    described = (tmp_path / "config.json").read_bytes()
    real, done = os.replace, []

    def killed(*places, **folders):
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(real(*places, **folders))

    monkeypatch.setattr(os, "replace", killed)
    with suppress(KeyboardInterrupt):
        audiovae.save(second, tmp_path)
    if (tmp_path / "config.json").exists():
        wanted = first if (tmp_path / "config.json").read_bytes() == described else second
        assert audiovae.fingerprint(audiovae.load(tmp_path)) == audiovae.fingerprint(wanted)
    else:
        assert "no config.json in this folder" in error_of(tmp_path)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_colleagues_may_read_what_was_saved(mask, mode, tmp_path):
    before = os.umask(mask)
    try:
        audiovae.save(make("vae"), tmp_path / "model", facts=audiovae.Facts())
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode & 0o777) for file in (tmp_path / "model").iterdir()} == {oct(mode)}


def test_a_fingerprint_ignores_the_buffers_that_only_training_uses():
    model = awake("vqvae with levels")
    before = audiovae.fingerprint(model)
    assert set(model.training_only) < {name for name, _ in model.named_buffers()}
    for name, buffer in model.named_buffers():
        if name in model.training_only:
            buffer.add_(1)
    assert audiovae.fingerprint(model) == before
    model.quantizer.counts.add_(1)
    assert audiovae.fingerprint(model) != before
