"""Losses of both players: values at known scores, and each item on its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.adversarial.losses import adversarial_loss, discriminator_loss, feature_distance, mean_score

KINDS = ("hinge", "least_squares", "relativistic")


def scores(batch: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(batch, 1, 4, width, generator=generator) for width in (5, 2)]


@pytest.mark.parametrize(
    ("kind", "of_discriminator", "of_model"),
    [("hinge", 2.0, 1.0), ("least_squares", 1.0, 1.0), ("relativistic", 0.6931, 0.6931)],
)
def test_a_discriminator_that_knows_nothing(kind, of_discriminator, of_model):
    """All scores are 0."""
    none = [torch.zeros(2, 1, 3, 3)]
    assert discriminator_loss(kind, none, none) == pytest.approx(torch.full((2,), of_discriminator), abs=1e-4)
    assert adversarial_loss(kind, none, none) == pytest.approx(torch.full((2,), of_model), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_discriminator_that_has_won_and_a_model_that_has(kind):
    high, low = [torch.ones(1, 1, 4)], [torch.zeros(1, 1, 4) if kind == "least_squares" else -torch.ones(1, 1, 4)]
    many = 20 if kind == "relativistic" else 1
    high, low = [many * high[0]], [many * low[0]]
    assert discriminator_loss(kind, high, low).item() == pytest.approx(0, abs=1e-6)
    assert discriminator_loss(kind, low, high).item() > 1
    assert adversarial_loss(kind, low, high).item() == pytest.approx(0, abs=1e-6)
    assert adversarial_loss(kind, high, low).item() >= 1


@given(st.sampled_from(KINDS), st.integers(1, 5), st.integers(0, 9))
def test_an_items_value_does_not_depend_on_the_others(kind, batch, seed):
    real, fake = scores(batch, seed), scores(batch, seed + 100)
    for loss in (discriminator_loss, adversarial_loss):
        together = loss(kind, real, fake)
        assert together.shape == (batch,)
        for item in range(batch):
            one = loss(kind, [part[item : item + 1] for part in real], [part[item : item + 1] for part in fake])
            assert one.item() == pytest.approx(together[item].item(), rel=1e-6)
    assert mean_score(real).shape == (batch,)


@given(st.sampled_from(KINDS), st.integers(0, 9))
def test_the_model_wants_higher_scores_and_the_discriminator_lower_ones(kind, seed):
    real, fake = scores(3, seed), [part.requires_grad_() for part in scores(3, seed + 50)]
    for part in torch.autograd.grad(adversarial_loss(kind, real, fake).sum(), fake):
        # Least squares pulls towards 1 from both sides.
        assert (part <= 0).all() or kind == "least_squares"
    for part in torch.autograd.grad(discriminator_loss(kind, real, fake).sum(), fake):
        assert (part >= 0).all() or kind == "least_squares"


def test_the_feature_distance_is_relative_to_the_recording():
    real = [[torch.full((2, 3, 4), 0.5), torch.full((2, 3, 2), 8.0)]]
    fake = [[torch.full((2, 3, 4), 0.75), torch.full((2, 3, 2), 4.0)]]
    assert feature_distance(real, fake) == pytest.approx(torch.tensor([0.5, 0.5]))
    assert feature_distance(real, real) == pytest.approx(torch.zeros(2))
    silent = [[torch.zeros(1, 2, 2)]]
    assert feature_distance(silent, [[torch.full((1, 2, 2), 1e-3)]]).isfinite().all()
