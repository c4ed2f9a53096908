import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import FAMILIES, make, noise, tones

from audiovae import Noise

TOTAL = 6


def draws(source: Noise) -> list[torch.Tensor]:
    """What a model might draw: of different shapes and kinds, one after the other."""
    return [source.normal(3, 5), source.integers(100, 4), source.normal(2)]


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(TOTAL)), cuts=st.sets(st.integers(1, TOTAL - 1)), step=st.integers(0, 10**6))
def test_an_item_gets_the_same_draws_however_the_batch_is_split(order, cuts, step):
    whole = draws(noise(TOTAL, step))
    edges = [0, *sorted(cuts), TOTAL]
    for first, last in itertools.pairwise(edges):
        rows = list(order[first:last])
        for part, full in zip(draws(noise(TOTAL, step, rows)), whole, strict=True):
            assert torch.equal(part, full[rows])


def test_draws_differ_between_items_calls_steps_and_seeds():
    rows = torch.arange(TOTAL)
    seen = [
        *Noise(0, 0, rows, TOTAL).normal(4),
        *Noise(0, 1, rows, TOTAL).normal(4),
        *Noise(1, 0, rows, TOTAL).normal(4),
    ]
    source = Noise(2, 2, rows, TOTAL)
    seen += [*source.normal(4), *source.normal(4)]
    assert len({tuple(row.tolist()) for row in seen}) == len(seen)


def test_many_neighbouring_seeds_and_steps_share_no_draw():
    rows = torch.zeros(1, dtype=torch.int64)
    first = {Noise(seed, step, rows, 1).normal(1).item() for seed in range(12) for step in range(100)}
    # float32 draws may coincide by chance, streams may not.
    assert len(first) > 1190


def test_draws_have_the_distribution_they_claim():
    source = noise(2000)
    normal, integers = source.normal(10), source.integers(7, 10)
    assert normal.dtype == torch.float32
    assert normal.mean().abs() < 0.02
    assert normal.std().item() == pytest.approx(1.0, abs=0.02)
    assert integers.dtype == torch.int64
    counts = integers.flatten().bincount(minlength=7)
    assert len(counts) == 7
    assert (counts / 20000 * 7 - 1).abs().max() < 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_training_passes_leave_the_global_generator_alone(family):
    model, audio = make(family), tones(2)
    before = torch.get_rng_state()
    output = model(audio, noise(2))
    model.update(output.statistics, step=10**6)
    model(audio, noise(2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_step_gives_the_same_pass_and_another_step_another(family):
    model, audio = make(family), tones(2)
    first, again, other = (model(audio, noise(2, step)).recon for step in (3, 3, 4))
    assert torch.equal(first, again)
    # A VQ-VAE's noise only chooses what dead codes are offered.
    assert torch.equal(first, other) == (family == "vqvae")
