from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
import torch
from tiny_models import CONFIGS, FAMILIES, RATE, SAMPLES, awake, make, noise, tones

import audiovae
from audiovae.commands import sample
from audiovae.models.hvae import HVAEConfig


def test_all_families_are_tested():
    assert set(audiovae.FAMILIES) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_shape_fits_a_second_of_audio(family):
    with torch.device("meta"):
        model = audiovae.build(family, {}, 22050, 22050)
    assert (model.family, model.samples, model.rate, model.seconds) == (family, 22050, 22050, 1.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 0.05, 1.0, 3.0])
def test_samples_have_the_chunk_shape_and_are_finite(family, temperature):
    model = awake(family).eval()
    audio = model.sample(3, temperature, noise(3))
    assert audio.shape == (3, 1, SAMPLES)
    assert audio.isfinite().all()
    assert not audio.requires_grad
    assert torch.equal(audio, model.sample(3, temperature, noise(3)))
    assert model.sample(1).shape == (1, 1, SAMPLES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [-1, 10.5, float("nan"), float("inf")])
def test_temperatures_are_those_that_the_command_takes(family, temperature):
    model = awake(family).eval()
    with pytest.raises(audiovae.ModelError, match=f"^temperature is {temperature}: choose 0 to 10$"):
        model.sample(1, temperature)
    with pytest.raises(audiovae.ModelError, match=f"^temperature is {temperature}: choose 0 to 10$"):
        audiovae.sample_chunks(model, 1, temperature)
    with pytest.raises(audiovae.ModelError, match=f"^--temperature {temperature}: choose 0 to 10$"):
        sample(Path("no-model"), Path("out.wav"), temperature=temperature)


@pytest.mark.parametrize("family", FAMILIES)
def test_latents_have_the_type_that_the_class_names(family):
    model = awake(family).eval()
    named = get_type_hints(audiovae.FAMILIES[family][0].encode)["return"]
    assert named == (list[torch.Tensor] if family == "hvae" else torch.Tensor)
    assert named in get_args(audiovae.Latents)
    assert isinstance(model.encode(tones(1)), get_origin(named) or named)


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_differ_where_the_temperature_lets_them(family):
    model = awake(family).eval()
    audio = model.sample(2, 1.0, noise(2))
    assert not torch.equal(audio[0], audio[1])
    if family != "vqvae":  # two of its codes may be used as often
        cold = model.sample(2, 0.0, noise(2))
        torch.testing.assert_close(cold[0], cold[1])


def test_a_vqvae_samples_codes_by_their_use():
    model = awake("vqvae").eval()
    model.quantizer.counts[:] = 1.0
    model.quantizer.counts[:, 9] = 63.0  # half of all
    seen = []
    model.decode = lambda codes: seen.append(codes)
    for temperature in (1.0, 0.01):
        model.sample(200, temperature, noise(200))
    warm, cold = ((codes == 9).float().mean().item() for codes in seen)
    assert seen[0].shape == (200, 4, model.frames)
    assert warm == pytest.approx(0.5, abs=0.02)
    assert cold == 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_what_was_encoded_is_reconstruction_and_has_no_noise(family):
    model, audio = awake(family).eval(), tones(3)
    rebuilt = model.reconstruct(audio)
    assert rebuilt.shape == audio.shape
    assert not rebuilt.requires_grad
    assert torch.equal(model.decode(model.encode(audio)), rebuilt)
    assert torch.equal(model.reconstruct(audio), rebuilt)
    torch.testing.assert_close(model.reconstruct(audio[1:2]), rebuilt[1:2], rtol=1e-4, atol=1e-5)


def test_latents_of_a_vae():
    model = awake("vae").eval()
    assert model.encode(tones(2)).shape == (2, 48, 21)


def test_latents_of_an_hvae_run_from_fine_to_coarse():
    model = awake("hvae").eval()
    latents = model.encode(tones(2))
    assert [z.shape for z in latents] == [(2, 48, 21), (2, 16, 7), (2, 8, 1)]
    # Every level is heard.
    audio = model.decode(latents)
    for level in range(3):
        changed = [z + 3.0 * (i == level) for i, z in enumerate(latents)]
        assert (model.decode(changed) - audio).abs().max() > 1e-5


def test_latents_of_a_vqvae_are_codes():
    model = awake("vqvae").eval()
    codes = model.encode(tones(2))
    assert codes.dtype == torch.int64
    assert codes.shape == (2, 4, 21)
    assert codes.min() >= 0
    assert codes.max() < 64
    assert len(codes.unique()) > 16
    coarse = model.decode(codes[:, :2])
    assert coarse.shape == (2, 1, SAMPLES)
    assert not torch.equal(coarse, model.decode(codes))


def test_an_hvae_with_the_posterior_of_its_prior_has_no_divergence():
    """The coarser levels start at their prior: almost nothing to pay before they have learned anything."""
    output = make("hvae")(torch.zeros(2, 1, SAMPLES), noise(2))
    finest, *coarser = (output.metrics[f"kl_{i}_nats_per_second"] for i in range(3))
    assert finest > 1000
    assert all(nats < 0.01 * finest for nats in coarser)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_setting_is_refused(family):
    with pytest.raises(TypeError, match="latnt"):
        audiovae.build(family, CONFIGS[family] | {"latnt": 3}, SAMPLES, RATE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": [8]}, "1 levels"),
        ({"latents": [8] * 5}, "5 levels"),
        ({"level_strides": [3]}, "level_strides has 1 entries: 4 levels need 3"),
        ({"level_channels": [8] * 4}, "level_channels has 4 entries"),
        ({"free_nats": []}, "free_nats has 0 entries"),
    ],
)
def test_lists_over_levels_must_match(changes, message):
    with pytest.raises(ValueError, match=message):
        HVAEConfig(**changes)
