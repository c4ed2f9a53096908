"""Alterations of models reach every place that builds one: training, loading, other lengths."""

import pytest
import torch
import yaml

import audiovae
from audiovae import FAMILIES
from audiovae.models.lengths import stretched
from audiovae.saved.kinds import build_any
from benchmarks.variants.__main__ import ALTERATIONS, alter
from tests.preloaded import ROOT

SAMPLES = 22050
# Their libraries take seconds to import.
SLOW = ("trunk-dac", "trunk-seanet", "trunk-oobleck", "trunk-banded")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow(area="league") if name in SLOW else ()) for name in sorted(ALTERATIONS)
]


def built(family: str, name: str) -> audiovae.Autoencoder:
    """A model of the tiny preset, as the training builds it."""
    config = yaml.safe_load((ROOT / "train" / "configs" / f"{family}_tiny.yaml").read_text())["model"]
    if name.startswith("multiband"):
        config["trunk"]["strides"] = [7, 5]
        config["levels"] = {"bands": 0}  # they are measured on the waveform
    torch.manual_seed(0)
    model = build_any(family, config, SAMPLES, 22050)
    assert isinstance(model, audiovae.Autoencoder)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_an_alteration_is_in_models_of_training_and_of_other_lengths(name, tmp_path, monkeypatch):
    family = "vqvae" if name.startswith(("rival", "gain")) else "vae"
    audio = 0.05 * torch.randn(2, 1, SAMPLES, generator=torch.Generator().manual_seed(0))
    plain = built(family, "")
    for own in FAMILIES:
        monkeypatch.setitem(FAMILIES, own, FAMILIES[own])  # restored at the end
    alter(name)
    model = built(family, name)
    if name.startswith("gain"):
        assert torch.allclose(model.represent(audio), float(name[5:]) * plain.represent(audio))
    else:
        assert not same_weights(plain, model)
    model.calibrate([audio])
    audiovae.save(model, tmp_path / "model")
    loaded = audiovae.load(tmp_path / "model").eval()
    assert same_weights(model, loaded)
    with torch.no_grad():
        output = loaded.reconstruct(audio)
        other = stretched(loaded, SAMPLES)
        assert other is not None
        assert torch.allclose(other.reconstruct(audio), output, atol=1e-5)


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Whether two models have the same tensors by name."""
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
