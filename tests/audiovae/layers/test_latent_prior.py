"""Learned priors of a VAE's latents: densities, draws, and the divergence by one draw."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CONFIGS, all_terms, make, noise, tones
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from audiovae import Noise
from audiovae.layers import gaussian
from audiovae.layers.latent_prior import FlowOfLatents, LatentPriorConfig, MixturePrior, make_latent_prior, order_of

KINDS = ("mixture", "flow")


def moved(prior, seed=0, size=0.1):
    """The prior with weights that have left their start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return prior


def prior_of(kind, channels=4, seed=0):
    torch.manual_seed(seed)
    return moved(make_latent_prior(LatentPriorConfig(kind, components=3, layers=3, width=8), channels), seed)


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 5), components=st.integers(1, 4), frames=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_density_of_a_mixture_is_that_of_the_textbook(channels, components, frames, seed):
    torch.manual_seed(seed)
    prior = moved(MixturePrior(channels, components), seed, 0.5)
    latents = 2 * torch.randn(3, channels, frames)
    parts = Independent(Normal(prior.mean, prior.log_deviation.exp()), 1)
    whole = MixtureSameFamily(Categorical(logits=prior.weight), parts)
    torch.testing.assert_close(prior(latents), whole.log_prob(latents.transpose(1, 2)).sum(1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("log_deviation", [0.0, -3.0, -6.0])
def test_the_density_of_a_mixture_is_exact_for_small_deviations_and_under_autocast(log_deviation):
    torch.manual_seed(0)
    prior = MixturePrior(16, 8)
    with torch.no_grad():
        prior.mean.normal_()
        prior.log_deviation.fill_(log_deviation)
    latents = 2 * torch.randn(3, 16, 5)
    parts = Independent(Normal(prior.mean.double(), prior.log_deviation.double().exp()), 1)
    whole = MixtureSameFamily(Categorical(logits=prior.weight.double()), parts)
    wanted = whole.log_prob(latents.double().transpose(1, 2)).sum(1).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = prior(latents)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-4)


def test_the_order_of_channels_never_changes():
    """Weights of a model folder mean nothing in another order."""
    assert order_of(0, 8).tolist() == [2, 4, 6, 5, 1, 7, 0, 3]
    assert order_of(5, 8).tolist() == [5, 3, 0, 2, 4, 6, 7, 1]
    assert sorted(order_of(3, 1000).tolist()) == list(range(1000))


@settings(max_examples=10, deadline=None)
@given(channels=st.integers(2, 5), frames=st.integers(1, 3), layers=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_density_of_a_flow_has_the_jacobian_of_its_inverse(channels, frames, layers, seed):
    torch.manual_seed(seed)
    prior = moved(FlowOfLatents(channels, layers, 8), seed)

    class Fixed(Noise):
        def __init__(self):
            self.rows = torch.arange(1)

        def normal(self, *shape):
            return base.view(1, *shape)

    base = torch.randn(channels * frames)
    latents = prior.sample(Fixed(), frames, 1.0)

    def to_latents(values):
        nonlocal base
        base = values
        return prior.sample(Fixed(), frames, 1.0).flatten()

    start = base.clone()
    jacobian = torch.autograd.functional.jacobian(to_latents, start)
    wanted = Normal(0.0, 1.0).log_prob(start).sum() - torch.linalg.slogdet(jacobian.double())[1]
    torch.testing.assert_close(prior(latents)[0].double(), wanted.double(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_density_that_the_prior_states(kind):
    """The mean log density of draws is the negative entropy; that of values moved away from them is lower."""
    prior = prior_of(kind)
    drawn = prior.sample(noise(4000), 2, 1.0).detach()
    own = prior(drawn)
    assert own.mean() > prior(drawn + 0.5).mean() + 0.3
    assert own.mean() > prior(1.5 * drawn).mean() + 0.3
    # Importance sampling: densities integrate to one.
    wide = Normal(0.0, 2.0)
    values = 2 * torch.randn(200_000, 4, 1, generator=torch.Generator().manual_seed(1))
    ratio = (prior(values) - wide.log_prob(values).sum((1, 2))).exp()
    assert abs(ratio.mean() - 1) < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_the_divergence_by_draws_is_unbiased_and_has_gradients(kind):
    prior = prior_of(kind)
    mean = torch.randn(1, 4, 3).requires_grad_()
    log_variance = torch.full((1, 4, 3), -1.0, requires_grad=True)
    many = gaussian.draw(mean, log_variance, torch.randn(20_000, 4, 3, generator=torch.Generator().manual_seed(2)))
    q = Normal(mean, (0.5 * log_variance).exp())
    exact = (q.log_prob(many).sum((1, 2)) - prior(many)).mean()
    found = prior.divergence(log_variance, many).mean()
    assert abs(found - exact) < 0.05
    found.backward()
    assert mean.grad.abs().min() > 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in prior.parameters())


def test_a_prior_learns_two_clusters_that_a_normal_distribution_does_not_know():
    generator = torch.Generator().manual_seed(0)
    signs = 2 * torch.randint(2, (512, 1, 4), generator=generator) - 1
    data = 3 * signs + 0.3 * torch.randn(512, 2, 4, generator=generator)
    normal = Normal(data.mean(), data.std()).log_prob(data).sum((1, 2)).mean()
    for kind in KINDS:
        prior = prior_of(kind, channels=2)
        optimizer = torch.optim.Adam(prior.parameters(), 0.02)
        for _ in range(200):
            loss = -prior(data).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert -loss > normal + 4, kind
        drawn = prior.sample(noise(200), 4, 1.0)
        assert (drawn.abs() > 1.5).float().mean() > 0.8, kind


@pytest.mark.parametrize("kind", KINDS)
def test_temperature_zero_gives_one_sound(kind):
    drawn = prior_of(kind).sample(noise(3), 2, 0.0)
    torch.testing.assert_close(drawn, drawn[:1].expand_as(drawn), rtol=0, atol=1e-5)
    assert prior_of(kind).sample(noise(3), 2, 1.0).std(0).min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_vae_with_a_learned_prior_trains_item_by_item(kind):
    model = moved(make("vae", prior={"kind": kind, "components": 5, "layers": 2, "width": 8}), size=0.02)
    audio = tones(4)
    whole = all_terms(model, model(audio, noise(4)), audio)
    for row in range(4):
        alone = all_terms(model, model(audio[[row]], noise(4, rows=[row])), audio[[row]])
        torch.testing.assert_close(alone["kl"], whole["kl"][[row]], rtol=1e-4, atol=1e-5)
    whole["kl"].sum().backward()
    assert all(parameter.grad is not None for parameter in model.prior.parameters())
    assert model.sample(2).shape == (2, 1, model.samples)
    assert model.divergences(audio, noise(4)).shape == (4, 1)


def test_without_a_learned_prior_nothing_changes():
    plain, named = make("vae"), make("vae", prior={"kind": "normal"})
    assert plain.prior is None
    assert list(plain.state_dict()) == list(named.state_dict())


@pytest.mark.parametrize("start", ["transform", "random"])
def test_a_flow_starts_as_the_standard_normal(start):
    trunk = CONFIGS["vae"]["trunk"] | {"start": start}
    prior = make("vae", trunk=trunk, prior={"kind": "flow"}).prior
    latents = torch.randn(2, 48, 21)
    torch.testing.assert_close(prior(latents), Normal(0.0, 1.0).log_prob(latents).sum((1, 2)))


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"prior\.kind is bad: choose normal, mixture or flow"):
        LatentPriorConfig("bad")
    with pytest.raises(ValueError, match=r"prior\.components is 0"):
        LatentPriorConfig("mixture", components=0)
    with pytest.raises(ValueError, match="needs at least 2"):
        make_latent_prior(LatentPriorConfig("flow"), 1)
