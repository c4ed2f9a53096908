import pytest
import torch
from tiny_models import awake, make, noise, tones
from torch.distributions import Normal, kl_divergence

from audiovae.layers import gaussian


def random_gaussian(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return 2 * torch.randn(shape), 3 * torch.randn(shape)


def test_kl_to_standard_is_the_divergence():
    mean, log_variance = random_gaussian(3, 5, 7)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian.kl_to_standard(mean, log_variance), expected)


def test_kl_of_residual_is_the_full_divergence_from_posterior_to_prior():
    prior_mean, prior_log_variance = random_gaussian(3, 5, 7)
    shift, log_scale = random_gaussian(3, 5, 7)
    prior = Normal(prior_mean, (0.5 * prior_log_variance).exp())
    posterior = Normal(prior_mean + prior.stddev * shift, prior.stddev * (0.5 * log_scale).exp())
    torch.testing.assert_close(
        gaussian.kl_of_residual(shift, log_scale), kl_divergence(posterior, prior), rtol=1e-4, atol=1e-4
    )


def test_the_hvae_draws_from_the_posterior_whose_divergence_it_reports():
    """Its latents are prior mean + deviation * local, with local ~ N(shift, exp(log_scale))."""
    model, audio = awake("hvae"), tones(2)
    for level in model.decoder.levels:
        torch.nn.init.normal_(level.prior.bias)  # priors far from the standard one
    drawn, latents = [], None
    with torch.no_grad():
        for step in range(60):
            _, levels = model.descend(2, noise(2, step), model.features(audio), latents=latents)
            # Hold all but the finest level, so that its prior stays the same.
            latents = latents or [None, *(level.latents for level in levels[1:])]
            drawn.append(levels[0].latents)
        state = model.decoder.first_state(2)
        for index in (2, 1):
            state = model.decoder.below(index, model.decoder.levels[index].absorb(state, latents[index]))
        prior_mean, prior_log_variance = model.decoder.levels[0].prior_of(state)
        shift, log_scale = model.decoder.levels[0].posterior_of(state, model.features(audio)[0])
    prior = Normal(prior_mean, (0.5 * prior_log_variance).exp())
    posterior = Normal(prior_mean + prior.stddev * shift, prior.stddev * (0.5 * log_scale).exp())
    standardised = (torch.stack(drawn[1:]) - posterior.mean) / posterior.stddev
    assert standardised.mean().abs() < 0.01
    assert standardised.std().item() == pytest.approx(1.0, abs=0.01)


def test_the_vae_reports_the_divergence_of_its_posterior():
    model, audio = awake("vae"), tones(2)
    mean, log_variance = model.encoder(audio)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum((1, 2))
    output = model(audio, noise(2))
    torch.testing.assert_close(output.losses["kl"], expected / 2205, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.metrics["kl_nats_per_second"], expected.detach().mean() / 0.1)


def test_the_hvae_reports_the_divergence_of_each_level():
    model, audio = awake("hvae", free_nats=[0.0, 0.0, 0.0]), tones(2)
    output = model(audio, noise(2))
    recon, levels = model.descend(2, noise(2), model.features(audio))
    assert torch.equal(recon, output.recon)
    for i, level in enumerate(levels):
        posterior = Normal(level.shift, (0.5 * level.log_scale).exp())
        expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum((1, 2))
        torch.testing.assert_close(output.losses[f"kl_{i}"], expected / 2205, rtol=1e-4, atol=1e-6)


def test_draws_have_the_mean_and_deviation_asked_for():
    mean, log_variance = torch.tensor(3.0), torch.tensor(-2.0)
    draws = gaussian.draw(mean, log_variance, torch.randn(20000))
    assert draws.mean().item() == pytest.approx(3.0, abs=0.02)
    assert draws.std().item() == pytest.approx(torch.tensor(-1.0).exp().item(), rel=0.03)


def test_extreme_log_variances_stay_finite_with_their_gradient():
    raw = torch.tensor([-1e9, -50.0, 0.0, 50.0, 1e9], requires_grad=True)
    gaussian.kl_to_standard(torch.zeros(5), gaussian.bounded_log_variance(raw)).sum().backward()
    assert raw.grad.isfinite().all()
    assert gaussian.bounded_log_variance(raw.detach().bfloat16()).dtype == torch.float32


def test_free_nats_are_a_floor_for_each_item_without_gradient_below_it():
    kl = torch.tensor([[[0.5, 0.5]], [[3.0, 4.0]]], requires_grad=True)
    floored = gaussian.with_free_nats(kl, 2.0)
    assert floored.tolist() == [2.0, 7.0]
    floored.sum().backward()
    assert kl.grad.flatten(1).tolist() == [[0.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("family", ["vae", "hvae"])
def test_free_nats_are_given_per_second_of_audio(family):
    budget = 1e6  # far above what a fresh posterior spends
    model = make(family, free_nats=budget if family == "vae" else [0.0, budget, 0.0])
    losses = model(tones(2), noise(2)).losses
    name = "kl" if family == "vae" else "kl_1"
    # 0.1 s of audio with 2205 values.
    torch.testing.assert_close(losses[name], torch.full((2,), budget * 0.1 / 2205))
    if family == "hvae":
        assert (losses["kl_0"] < budget * 0.1 / 2205).all()
