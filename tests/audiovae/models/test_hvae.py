"""An HVAE's levels: their budgets, their balance, and what each is worth."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_itemwise import ITEMS, SPLITS, train_pass
from tiny_models import FAMILIES, awake, buffers, make, noise, tones

from audiovae import Statistics
from audiovae.layers import gaussian
from audiovae.models.hvae import HVAEConfig
from audiovae.models.top_down import Balance

values = st.lists(st.lists(st.floats(0, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=5)


@given(values, st.floats(0, 500))
def test_free_nats_by_channel_are_a_floor_for_each_channel(rows, free):
    kl = torch.tensor(rows).unsqueeze(-1).expand(-1, -1, 4) / 4
    found = gaussian.with_free_nats_by_channel(kl, free)
    expected = [sum(max(spent, free / 3) for spent in row) for row in rows]
    assert found.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    # Never less than one floor for the whole level, nor than what was spent.
    assert (found >= gaussian.with_free_nats(kl, free) * (1 - 1e-5) - 1e-4).all()


def test_no_channel_spends_the_share_of_another():
    kl = torch.tensor([[[8.0, 8.0], [0.5, 0.5]]], requires_grad=True)
    gaussian.with_free_nats_by_channel(kl, 4.0).sum().backward()
    assert kl.grad.tolist() == [[[1.0, 1.0], [0.0, 0.0]]]


def spent(kl: list[float], items: int = 1) -> Statistics:
    return Statistics({"kl": torch.tensor(kl), "items": torch.tensor(float(items))})


@given(st.lists(st.floats(0, 1e5, width=32), min_size=2, max_size=4), st.integers(1, 64), st.integers(1, 9))
def test_factors_of_the_balance_are_proportional_to_nats_a_value(kl, items, size):
    balance = Balance([size * (i + 1) for i in range(len(kl))], steps=10)
    balance.update(spent([k * items for k in kl], items), 1)
    each = torch.tensor([k / (size * (i + 1)) for i, k in enumerate(kl)]) + 0.01
    torch.testing.assert_close(balance.factors, each / each.mean(), rtol=1e-4, atol=1e-5)
    assert balance.factors.mean().item() == pytest.approx(1, rel=1e-4)
    for step in range(2, 12):
        balance.update(spent([k * items for k in kl], items), step)
        assert (balance.factors == 1).all() == (step >= 10 or len(set(balance.factors.tolist())) == 1)


def test_the_balance_keeps_what_is_not_finite_out():
    balance = Balance([1, 2], steps=10)
    balance.update(spent([3.0, 4.0]), 1)
    before = buffers(balance)
    balance.update(spent([torch.nan, 4.0]), 2)
    assert all(torch.equal(value, before[name]) for name, value in buffers(balance).items())


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_the_balance_moves_the_same_however_the_batch_was_split(split):
    model = awake("hvae", balance_steps=9)
    after = []
    for parts in ([list(range(ITEMS))], split):
        one = copy.deepcopy(model)
        for step in (1, 2):
            _, _, statistics = train_pass(one, tones(ITEMS), parts, step)
            one.update(statistics, step)
        after.append(buffers(one))
    assert not torch.equal(after[0]["balance.factors"], torch.ones(3))
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value, rtol=1e-4, atol=1e-5)


def test_the_balance_weighs_losses_and_not_the_report():
    model = awake("hvae", balance_steps=9)
    plain = model(tones(2), noise(2))
    model.balance.factors.copy_(torch.tensor([2.0, 1.0, 0.0]))
    weighed = model(tones(2), noise(2))
    for i, factor in enumerate((2.0, 1.0, 0.0)):
        torch.testing.assert_close(weighed.losses[f"kl_{i}"], factor * plain.losses[f"kl_{i}"])
        name = f"kl_{i}_nats_per_second"
        torch.testing.assert_close(weighed.metrics[name], plain.metrics[name])
    assert not make("hvae").state_dict().keys() & {"balance.factors", "balance.running"}
    assert not model.eval()(tones(2), noise(2)).statistics.sums


def test_a_balance_of_negative_length_is_refused():
    with pytest.raises(ValueError, match="balance_steps is -1"):
        HVAEConfig(balance_steps=-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_partial_reconstructions_know_some_levels(family):
    model, audio = awake(family).eval(), tones(2)
    found = model.partial_reconstructions(audio, noise(2))
    assert [partial.known for partial in found] == ([[0, 1, 2], [1, 2], [2], [0, 1], [0]] if family == "hvae" else [])
    whole = model.reconstruct(audio)
    for partial in found:
        assert partial.audio.shape == audio.shape
        assert torch.allclose(partial.audio, whole, atol=1e-6) == (partial.known == [0, 1, 2])
        assert not partial.audio.requires_grad


def test_levels_that_know_take_the_mean_and_others_their_prior():
    """[2]: coarsest level as in `encode`, so other noise changes the finer levels alone."""
    model, audio = awake("hvae").eval(), tones(2)
    means = model.encode(audio)
    features = [None, None, model.features(model.represent(audio))[2]]
    with torch.no_grad():
        _, one = model.descend(2, noise(2, 1), features, still=True)
        _, two = model.descend(2, noise(2, 2), features, still=True)
    assert torch.equal(one[2].latents, means[2])
    assert torch.equal(two[2].latents, means[2])
    for level in (0, 1):
        assert one[level].shift is None
        assert not torch.equal(one[level].latents, two[level].latents)
