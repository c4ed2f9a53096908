"""A VAE's pooled latent, batch-normalised means, learned variance, and the usual random start."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CONFIGS, FAMILIES, RATE, SAMPLES, TRUNK, all_terms, buffers, joined, make, noise, tones

import audiovae
from audiovae.models.vae import Likelihood, RunningNorm
from audiovae.results import Statistics

OPTIONS = {"pooled": True, "batch_norm": True, "learned_variance": True}


def test_a_pooled_latent_is_one_vector_and_every_frame_hears_it():
    model = make("vae", pooled=True).eval()
    latents = model.encode(tones(2))
    assert latents.shape == (2, 48, 1)
    moved = (model.decode(latents + 1) - model.decode(latents)).abs().view(2, 21, -1).amax(2)
    assert (moved > 0).all()
    assert model.sample(3).shape == (3, 1, SAMPLES)
    # The mean over time does not know the order of frames.
    features = model.encoder.tower(tones(1))[-1]
    torch.testing.assert_close(latents[:1], model.encoder.mean(features.mean(2, keepdim=True)))


@settings(max_examples=30, deadline=None)
@given(mean=st.floats(-20, 20), deviation=st.floats(0.1, 30), scale=st.floats(0.1, 2))
def test_running_norm_comes_to_its_scale(mean, deviation, scale):
    norm = RunningNorm(3, scale)
    raw = mean + deviation * torch.randn(64, 3, 5, generator=torch.Generator().manual_seed(0))
    norm.update(norm.sums(raw))  # the first batch sets the estimates
    values = norm(raw)
    torch.testing.assert_close(values.mean((0, 2)), torch.zeros(3), atol=0.01 * scale, rtol=0)
    torch.testing.assert_close(values.std((0, 2), unbiased=False), torch.full((3,), scale), atol=0, rtol=0.02)


def test_the_divergence_has_a_floor_under_batch_norm():
    """Of a channel at least half of scale squared, whatever the encoder does (Zhu et al. 2020, equation 6)."""
    model, audio = make("vae", batch_norm=True, batch_norm_scale=0.5), tones(16)
    target = model.represent(audio)
    with torch.no_grad():
        model.encoder.mean.weight.mul_(1e-2)  # an encoder on its way to say nothing
        model.update(model(target).statistics, 1)
        kl = model(target).metrics["kl_nats_per_second"] * model.seconds
    assert kl > 0.4 * 0.5**2 * 48 * 21


def test_sums_that_are_not_finite_change_nothing():
    model = make("vae", batch_norm=True)
    model.update(model(tones(4)).statistics, 1)
    before = buffers(model)
    bad = tones(4)
    bad[1] = torch.nan
    model.update(model(bad).statistics, 2)
    assert all(torch.equal(value, before[name]) for name, value in buffers(model).items())
    model.update(model(tones(4, 9)).statistics, 3)
    assert not torch.equal(model.norm.mean, before["norm.mean"])


@pytest.mark.parametrize("split", [[[0, 1], [2, 3, 4, 5]], [[0, 2, 4], [1, 3, 5]], [[5], [1, 3], [4, 2, 0]]], ids=str)
def test_a_split_batch_is_the_whole_batch_with_all_options(split):
    one, audio = make("vae", **OPTIONS), tones(6)
    one.update(one(audio, noise(6)).statistics, 1)
    many, found = copy.deepcopy(one), {}
    for name, model, parts in (("one", one, [list(range(6))]), ("many", many, split)):
        statistics, total = [], 0.0
        for rows in parts:
            output = model(audio[rows], noise(6, 2, rows))
            terms = all_terms(model, output, audio[rows])
            sum(term.sum() for term in terms.values()).backward()
            total += sum(term.sum().item() for term in terms.values())
            statistics.append(output.statistics)
        model.update(joined(statistics), 2)
        grads = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        found[name] = total, grads, buffers(model)
    assert found["many"][0] == pytest.approx(found["one"][0], rel=1e-4)
    assert (found["many"][1] - found["one"][1]).norm() <= 5e-3 * found["one"][1].norm()
    for name, value in found["one"][2].items():
        torch.testing.assert_close(found["many"][2][name], value, rtol=1e-4, atol=1e-5)


def test_statistics_are_for_training_only():
    model = make("vae", batch_norm=True)
    assert set(model(tones(2)).statistics.sums) == {"count", "total", "squares"}
    assert model.eval()(tones(2)).statistics == Statistics()


@settings(max_examples=20, deadline=None)
@given(error=st.floats(0.01, 3))
def test_likelihood_is_least_where_sigma_is_the_error(error):
    likelihood = Likelihood()
    output, target = torch.full((2, 1, 50), error), torch.zeros(2, 1, 50)
    optimizer = torch.optim.Rprop(likelihood.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        likelihood(output, target)[0].sum().backward()
        optimizer.step()
    nats, sigma = likelihood(output, target)
    assert sigma.item() == pytest.approx(error, rel=0.01)
    assert nats.tolist() == pytest.approx([0.5 + torch.tensor(error).log().item()] * 2, abs=1e-3)


def test_an_exact_output_has_a_finite_likelihood():
    likelihood, audio = Likelihood(), tones(2)
    with torch.no_grad():
        likelihood.log_sigma.fill_(-1000.0)
    nats, sigma = likelihood(audio, audio)
    assert nats.isfinite().all()
    assert sigma > 0.002


def test_options_travel_with_the_model(tmp_path):
    model = make("vae", **OPTIONS)
    assert model.loss_names == ("kl", "likelihood")
    model.update(model(tones(4)).statistics, 1)
    audiovae.save(model.eval(), tmp_path)
    assert torch.equal(audiovae.load(tmp_path).reconstruct(tones(1)), model.reconstruct(tones(1)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_random_start_has_nothing_of_the_transform(family):
    plain = make(family)
    model = audiovae.build(family, {**CONFIGS[family], "trunk": {**TRUNK, "start": "random"}}, SAMPLES, RATE)
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv1d | torch.nn.ConvTranspose1d)]
    assert layers
    for layer in layers:
        bound = layer.weight.shape[1] * layer.weight.shape[2]  # fan in, as torch counts it
        assert 0 < layer.weight.abs().max() <= bound**-0.5 * (1 + 1e-6)
    assert any(
        layer.weight.abs().max() > (layer.weight.shape[1] * layer.weight.shape[2]) ** -0.5
        for layer in plain.modules()
        if isinstance(layer, torch.nn.Conv1d)
    )
