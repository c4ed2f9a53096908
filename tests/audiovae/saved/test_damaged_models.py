"""Damaged models and unfinished runs: what is wrong, and what to load instead."""

import hashlib
import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, change_config, make

import audiovae
from audiovae import ModelError
from audiovae.saved import checksums
from audiovae.saved.model_folder import seal


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A model's folder, not to be changed."""
    folder = tmp_path_factory.mktemp("sound") / "model"
    audiovae.save(make("vae"), folder)
    return folder


def flip(file, place: float, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[min(int(place * len(content)), len(content) - 1)] ^= 1 << bit
    file.write_bytes(content)


def error_of(path) -> str:
    with pytest.raises(ModelError) as caught:
        audiovae.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert not any(odd in message for odd in ("anew", "()", "(')", ":)", "__init__", "NoneType", "indices", "object h"))
    return message


@pytest.mark.parametrize("family", FAMILIES)
def test_the_hash_of_every_weight_file_stands_in_the_config(family, tmp_path):
    audiovae.save(make(family), tmp_path, facts=audiovae.Facts())
    told = json.loads((tmp_path / "config.json").read_text())["sha256"]
    files = list(tmp_path.glob("*.safetensors"))
    assert told == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert "model.safetensors" in told


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(["model", "encoder", "decoder"]), place=st.floats(0, 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_told(sound, tmp_path, name, place, bit):
    folder = tmp_path / "copy"
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    flip(folder / f"{name}.safetensors", place, bit)
    message = error_of(folder)
    assert f"{folder / name}.safetensors: damaged (it is not what was saved); " in message
    remedy = "copy the model again" if name == "model" else "remove it, model.safetensors holds all weights"
    assert remedy in message


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_description_is_told_or_harmless(sound, tmp_path, place, bit):
    """Harmless are white space, and the name of the checksum: the rest is then what was saved."""
    folder = tmp_path / "copy"
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    flip(folder / "config.json", place, bit)
    try:
        found = audiovae.fingerprint(audiovae.load(folder))
    except ModelError as error:
        found = str(error)
    assert f"{folder}/config.json: " in found or found == audiovae.fingerprint(audiovae.load(sound))


def test_a_rate_that_was_changed_is_told(sound, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(sound, folder)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("22050", "22150"))
    damaged = "damaged (its checksum does not match its content); copy the model again"
    assert error_of(folder) == f"{folder}/config.json: {damaged}"
    about = json.loads(text) | {"rate": 24000}
    (folder / "config.json").write_text(json.dumps(about))
    error_of(folder)
    seal(folder)
    assert audiovae.load(folder).rate == 24000, "changed on purpose"
    del about["checksum"]
    (folder / "config.json").write_text(json.dumps(about))
    assert audiovae.load(folder).rate == 24000, "saved by an older version"


def test_a_damaged_part_may_be_removed(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "copy")
    flip(tmp_path / "copy" / "encoder.safetensors", 0.5)
    (tmp_path / "copy" / "encoder.safetensors").unlink()
    assert audiovae.fingerprint(audiovae.load(tmp_path / "copy")) == audiovae.fingerprint(audiovae.load(sound))


def test_a_folder_of_before_there_were_hashes_loads(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "copy")
    about = json.loads((tmp_path / "copy" / "config.json").read_text())
    del about["sha256"], about["checksum"]
    (tmp_path / "copy" / "config.json").write_text(json.dumps(about))
    assert audiovae.fingerprint(audiovae.load(tmp_path / "copy")) == audiovae.fingerprint(audiovae.load(sound))


@pytest.mark.parametrize("listed", [5, "abc", [1], None, {"../../x": "0"}, {"model.safetensors": 3}], ids=str)
def test_odd_hashes_are_one_line(listed, sound, tmp_path):
    shutil.copytree(sound, tmp_path / "copy")
    change_config(tmp_path / "copy", sha256=listed)
    if listed == {"../../x": "0"}:
        audiovae.load(tmp_path / "copy")  # names a file that is not there
    else:
        error_of(tmp_path / "copy")


def test_who_changes_weights_on_purpose_seals_them(sound, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(sound, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: 2 * value for name, value in weights.items()}, folder / "model.safetensors")
    error_of(folder)
    seal(folder)
    assert torch.equal(audiovae.load(folder).state_dict()["encoder.mean.weight"], 2 * weights["encoder.mean.weight"])
    with pytest.raises(ModelError, match=r"config\.json: not a model description"):
        seal(tmp_path)


def test_a_model_that_is_replaced_while_it_is_loaded_is_no_damage(sound, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(sound, folder)
    real, other = checksums.damaged_file, make("vae", seed=1)

    def slow(*arguments):
        monkeypatch.setattr(audiovae.saved.model_folder, "damaged_file", real)
        audiovae.save(other, folder)
        return real(*arguments)

    monkeypatch.setattr(audiovae.saved.model_folder, "damaged_file", slow)
    assert audiovae.fingerprint(audiovae.load(folder)) == audiovae.fingerprint(other)


def checkpoint(run, step: int):
    folder = run / "checkpoints" / f"step-{step:08d}"
    audiovae.save(make("vae"), folder)
    return folder


def test_of_a_run_that_is_not_finished_the_newest_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    assert "the run is not finished and has no model/ yet; wait for its first checkpoint" in error_of(tmp_path)
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 20)
    (tmp_path / "checkpoints" / "step-00000030.tmp").mkdir()
    message = error_of(tmp_path)
    assert message == f"{tmp_path}: the run is not finished and has no model/ yet; load its newest checkpoint, {newest}"
    assert audiovae.load(newest).family == "vae"


def test_instead_of_a_damaged_model_a_sound_checkpoint_is_named(tmp_path):
    audiovae.save(make("vae"), tmp_path / "model")
    older, newest = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20)
    flip(tmp_path / "model" / "model.safetensors", 0.9)
    for given_path in (tmp_path, tmp_path / "model"):
        assert error_of(given_path).endswith(f"; load {newest} instead")
    flip(newest / "model.safetensors", 0.9)
    assert error_of(tmp_path).endswith(f"; load {older} instead")
    assert error_of(newest).endswith(f"; load {older} instead")
    (tmp_path / "model" / "config.json").unlink()
    assert error_of(tmp_path / "model").endswith(f"no config.json in this folder; load {older} instead")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is not JSON"),
        ("[]", "it is not a JSON object"),
        ('{"format": 1}', "'family' is missing"),
        ('{"format": 1, "family": ["vae"]}', "a value has the wrong type"),
        (
            '{"format": 1, "family": "vae", "samples": 9, "rate": 8000, "config": {"latnt": 4}}',
            "unknown setting 'latnt'",
        ),
        ('{"format": 1, "family": "vae", "samples": 9, "rate": 8000, "config": {"trunk": {}}}', "'strides'"),
        ('{"format": 1, "family": "vae", "samples": "many", "rate": 8000}', "a value has the wrong type"),
    ],
)
def test_what_is_wrong_with_a_description_is_a_phrase(text, said, sound, tmp_path):
    shutil.copytree(sound, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text(text)
    assert f"{said}" in error_of(tmp_path / "copy")


@pytest.mark.parametrize("header", [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"])
def test_weights_that_are_none_are_a_phrase(header, sound, tmp_path):
    shutil.copytree(sound, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").write_bytes(header)
    seal(tmp_path / "copy")
    assert "model.safetensors: damaged (" in error_of(tmp_path / "copy")


def test_a_file_given_for_a_folder(sound):
    assert "is a file; pass the folder that contains it" in error_of(sound / "model.safetensors")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_without_a_gpu(device, sound):
    with pytest.raises(ModelError, match=f"device {device}: PyTorch found no GPU here; choose cpu"):
        audiovae.load(sound, device)


@pytest.mark.parametrize("device", ["meta", "", "gpu", "cpu:x"])
def test_a_device_that_is_none(device, sound):
    with pytest.raises(ModelError, match="choose cpu, or cuda where there is a GPU"):
        audiovae.load(sound, device)
