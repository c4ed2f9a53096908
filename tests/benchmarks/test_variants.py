"""Alterations of models reach every place that builds one: training, loading, other lengths."""

import pytest
import torch
import yaml

import audiovae
from audiovae import FAMILIES
from audiovae.models.lengths import stretched
from audiovae.saved.kinds import build_any
from benchmarks.variants import layers, losses
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
    elif name.removeprefix("change-") in losses.LOSSES:
        other = plain.represent(audio.flip(0))
        own, before = (each.distances(other, plain.represent(audio)) for each in (model, plain))
        assert not torch.isclose(own["stft"], before["stft"]).any()
        assert torch.equal(own["mse"], before["mse"])
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


@pytest.mark.parametrize("kind", losses.LOSSES)
def test_a_changed_loss_is_zero_for_the_target_and_has_a_finite_slope(kind):
    target = 0.1 * torch.randn(3, 1, 8000, generator=torch.Generator().manual_seed(0))
    target[2] = 0
    apart = losses.LOSSES[kind]
    assert torch.allclose(apart(target, target, 22050), torch.zeros(3), atol=1e-4)
    output = (0.5 * target).requires_grad_()
    found = apart(output, target, 22050)
    assert found.shape == (3,)
    assert (found[:2] > 0.1).all()
    found.sum().backward()
    assert output.grad is not None
    assert output.grad.isfinite().all()
    alone = torch.cat([apart(output[i : i + 1].detach(), target[i : i + 1], 22050) for i in range(3)])
    assert torch.allclose(alone, found.detach(), atol=1e-5)  # one value for each item


def test_k_weighting_has_the_gains_of_the_standard():
    """BS.1770-4: 0.69 dB at 1 kHz, about 4 dB in the treble, and little below 50 Hz."""
    gain = 20 * losses.k_response(22050, 22050).clamp_min(1e-9).log10()
    assert gain[997].item() == pytest.approx(0.69, abs=0.02)
    assert gain[10000].item() == pytest.approx(4.0, abs=0.1)
    assert gain[20].item() < -10


def test_phase_counts_a_shift_in_frequency_but_no_turn_of_the_whole_signal():
    time = torch.arange(22050) / 22050
    tone = torch.sin(2 * torch.pi * 440 * time).view(1, 1, -1)
    turned, other = (torch.cos(2 * torch.pi * hertz * time).view(1, 1, -1) for hertz in (440, 480))
    extra = [
        (losses.with_phase(each, tone, 22050) - losses.stft_distance(each, tone)).item() for each in (turned, other)
    ]
    assert extra[0] < 0.1 * extra[1]


def test_attention_sees_half_a_second_to_each_side():
    torch.manual_seed(0)
    layer = layers.LocalAttention(8)
    torch.nn.init.normal_(layer.leave.weight)
    x = torch.randn(1, 8, 100, requires_grad=True)
    layer(x)[0, :, 50].sum().backward()
    assert x.grad is not None
    reached = x.grad[0].abs().sum(0).nonzero().flatten()
    assert reached[0] == 50 - layers.REACH
    assert reached[-1] == 50 + layers.REACH
