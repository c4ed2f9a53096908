"""Descriptions of models that would fill the memory: refused in one line, at once, before anything is allocated."""

import copy
import json
import math
import os
import resource
import shutil
import struct
import time

import pytest
from tiny_models import FAMILIES, change_config, make

import audiovae
from audiovae import ModelError
from audiovae.card import read_facts
from audiovae.facts import Facts
from audiovae.models.families import FAMILIES as KINDS
from audiovae.saved.weights_file import shapes_of_file, shapes_of_model
from shards.files import JSONError, parse_json

HUGE = 10**7


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder of one model of each family, not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    for family in FAMILIES:
        audiovae.save(make(family), folder / family)
    return folder


def error_of(folder) -> str:
    """The one line with which loading ends, in bounded time and memory."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError) as caught:
        audiovae.load(folder)
    assert time.process_time() - began < 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "in KiB"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def with_value(sound, folder, family: str, path: str, value: object):
    """A copy of a model with another value in config.json; the text of infinite numbers is 1e400."""
    shutil.copytree(sound / family, folder)
    about = json.loads((folder / "config.json").read_text())
    place, names = about, path.split(".")
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = value
    change_config(folder, **about)
    return folder


@pytest.mark.parametrize(
    ("family", "path", "value"),
    [
        ("vae", "config.trunk.blocks", HUGE),
        ("vae", "config.trunk.blocks", 64),
        ("vae", "config.trunk.channels", [HUGE, HUGE]),
        ("vae", "config.trunk.channels", [60_000, 60_000]),
        ("vae", "config.trunk.channels", [8] * HUGE),
        ("vae", "config.trunk.kernel", HUGE + 1),
        ("vae", "config.trunk.strides", [HUGE, 7]),
        ("vae", "config.latent", HUGE),
        ("vae", "config.latent", 60_000),
        ("hvae", "config.latents", [HUGE, 16, 8]),
        ("hvae", "config.level_channels", [60_000, 60_000]),
        ("vqvae", "config.quantizer.size", HUGE),
        ("vqvae", "config.quantizer.size", 1 << 20),
        ("vqvae", "config.quantizer.codebooks", HUGE),
        ("vqvae", "config.quantizer.dimension", 60_000),
        ("vae", "config.representation", {"kind": "mel", "bands": 4000, "n_fft": 1 << 20, "hop": 1 << 10}),
        ("vae", "samples", 2205 * HUGE),
        ("vae", "samples", (1 << 26) - 1),
        ("vae", "rate", 999),
        ("vae", "rate", 1_000_001),
    ],
)
def test_a_description_of_a_huge_model_is_refused(family, path, value, sound, tmp_path):
    error_of(with_value(sound, tmp_path / "model", family, path, value))


@pytest.mark.parametrize("value", [math.inf, math.nan, -1, True, "9", None, [], {}, 10**400], ids=str)
@pytest.mark.parametrize(
    "path", ["samples", "rate", "config.trunk.blocks", "config.trunk.kernel", "config.latent", "config.trunk.strides"]
)
def test_what_is_no_number_is_refused(path, value, sound, tmp_path):
    error_of(with_value(sound, tmp_path / "model", "vae", path, value))


@pytest.mark.parametrize("path", ["config.trunk.channels", "config.trunk", "config", "level", "family", "sha256"])
def test_values_of_another_kind_are_refused(path, sound, tmp_path):
    for place, value in enumerate(([1e400], [math.nan, 1], [True, True], [["x"]], "x", 3, [[[]]])):
        error_of(with_value(sound, tmp_path / str(place), "vae", path, value))


def test_deep_json_is_refused(sound, tmp_path):
    for depth in (40, 200_000):
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        shutil.copytree(sound / "vae", tmp_path / "model")
        (tmp_path / "model" / "config.json").write_text("[" * depth + "]" * depth)
        assert "it is nested too deeply" in error_of(tmp_path / "model")


def test_a_huge_description_is_not_read(sound, tmp_path):
    shutil.copytree(sound / "vae", tmp_path / "model")
    os.truncate(tmp_path / "model" / "config.json", 1 << 40)
    assert "it has more than 1,048,576 bytes" in error_of(tmp_path / "model")


def test_weights_of_a_terabyte_are_not_read(sound, tmp_path):
    """Nor hashed: the file is larger than its model."""
    shutil.copytree(sound / "vae", tmp_path / "model")
    os.truncate(tmp_path / "model" / "model.safetensors", 1 << 40)
    assert "model.safetensors: damaged" in error_of(tmp_path / "model")


def test_weights_of_other_shapes_are_told_by_their_header(sound, tmp_path):
    shutil.copytree(sound / "vae", tmp_path / "model")
    about = json.loads((tmp_path / "model" / "config.json").read_text())
    del about["sha256"], about["checksum"]
    about["config"]["latent"] = 47
    (tmp_path / "model" / "config.json").write_text(json.dumps(about))
    assert "its shapes do not match config.json" in error_of(tmp_path / "model")


@pytest.mark.parametrize("header", [b"{", b"[]", b'{"x": 1}', b'{"x": {"shape": [1e400]}}', b'{"x": {"shape": "ab"}}'])
def test_odd_headers_are_none(header, tmp_path):
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header)
    assert shapes_of_file(tmp_path / "x") is None
    (tmp_path / "x").write_bytes(struct.pack("<Q", 1 << 60) + header)
    assert shapes_of_file(tmp_path / "x") is None


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shapes_are_those_of_the_model(family, sound):
    model = make(family)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes_of_model(family, copy.deepcopy(model.config), model.samples, model.rate) == shapes
    assert shapes_of_file(sound / family / "model.safetensors") == shapes
    assert family in KINDS


@pytest.mark.parametrize(
    "facts",
    [
        {"measures": {"mse": "x"}},
        {"measures": {"mse": 10**400}},
        {"nats_per_second": ["x"]},
        {"nats_per_second": [True]},
        {"steps": -1},
        {"steps": 10**30},
        {"steps": 1.5},
        {"settings": []},
        {"other": 1},
        [],
    ],
    ids=str,
)
def test_facts_of_another_kind_are_one_line(facts, sound, tmp_path):
    shutil.copytree(sound / "vae", tmp_path / "model")
    (tmp_path / "model" / "facts.json").write_text(json.dumps(facts))
    assert "facts.json: damaged (" in error_of(tmp_path / "model")


def test_half_a_surrogate_pair_can_be_written_into_a_card(sound, tmp_path):
    shutil.copytree(sound / "vae", tmp_path / "model")
    (tmp_path / "model" / "facts.json").write_text(json.dumps({"name": "\ud800", "settings": {"seed": "\udfff"}}))
    assert read_facts(tmp_path / "model") == Facts(name="\ud800", settings={"seed": "\udfff"})
    assert audiovae.add_measures(tmp_path / "model", {"mse": 0.5}, {})
    assert "0.5" in (tmp_path / "model" / "README.md").read_text()


def test_json_that_is_none():
    for text in ("", "{", "[1,]", "\ufeff1", "1" * 5000, b"\xff", b'"\x00"'):
        with pytest.raises(JSONError, match="it is not JSON"):
            parse_json(text)
    assert parse_json("[" * 32 + "]" * 32)
