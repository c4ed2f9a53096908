"""A batch is the sum of its items: what lets one process or many, and micro-batches, train alike."""

import copy

import pytest
import torch
from tiny_models import FAMILIES, LEVELED, all_terms, awake, buffers, gradients, joined, make, noise, tones

ITEMS = 6
# As one process may get them, as ranks stride them, in micro-batches of one, and in no order at all.
SPLITS = ([[0, 1], [2, 3, 4, 5]], [[0, 2, 4], [1, 3, 5]], [[i] for i in range(ITEMS)], [[5, 1, 3], [4], [2, 0]])
# With many codes to few vectors some vectors leave no rest at all, and the last codebooks' choices are ties.
FEW_CODES = 12


def train_pass(model, audio, parts, step=3):
    """Terms of each item in the order of the batch, gradients of their sum, and the joined statistics."""
    model.zero_grad()
    terms, statistics = {}, []
    for rows in parts:
        output = model(audio[rows], noise(len(audio), step, rows))
        here = all_terms(model, output, audio[rows])
        sum(term.sum() for term in here.values()).backward()
        statistics.append(output.statistics)
        for name, term in here.items():
            terms.setdefault(name, torch.full((len(audio),), torch.nan))[rows] = term.detach()
    whole = joined(statistics)
    order = torch.tensor([row for rows in parts for row in rows]).argsort()
    whole.items = {name: value[order] for name, value in whole.items.items()}
    return terms, gradients(model), whole


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("family", [*FAMILIES, *LEVELED, "vqvae before its codebooks"])
def test_a_split_batch_gives_the_same_losses_gradients_and_statistics(family, split):
    small = {"size": FEW_CODES} if family.startswith("vqvae") else {}
    model = awake(family, **small) if "before" not in family else make("vqvae")
    audio = tones(ITEMS)
    terms, grads, statistics = train_pass(model, audio, [list(range(ITEMS))])
    split_terms, split_grads, split_statistics = train_pass(model, audio, split)
    assert terms["mse"].std() > 0
    for name, term in terms.items():
        torch.testing.assert_close(split_terms[name], term, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    assert split_grads.keys() == grads.keys()
    for name, grad in grads.items():
        # By its length: logarithms of faint magnitudes make single elements sensitive to rounding.
        assert (split_grads[name] - grad).norm() <= 5e-3 * grad.norm() + 1e-7, name
    for kind in ("sums", "items"):
        ours, theirs = getattr(split_statistics, kind), getattr(statistics, kind)
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("started", [False, True], ids=["k-means start", "moving average"])
def test_codebooks_move_the_same_however_the_batch_was_split(split, started):
    # A threshold so high that restarts are part of the comparison.
    model = awake("vqvae", size=FEW_CODES, restart_below=0.5) if started else make("vqvae", size=FEW_CODES)
    before = buffers(model)
    after = []
    for parts in ([list(range(ITEMS))], split):
        one = copy.deepcopy(model)
        _, _, statistics = train_pass(one, tones(ITEMS), parts, step=40)
        one.update(statistics, 40)
        assert one.quantizer.quantizing
        after.append(buffers(one))
    assert not torch.equal(after[0]["quantizer.codes"], before["quantizer.codes"])
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("family", [*FAMILIES, *LEVELED])
def test_losses_of_the_model_are_those_it_names(family):
    model = awake(family)
    for mode in (True, False):
        output = model.train(mode)(tones(2), noise(2))
        assert set(output.losses) == set(model.loss_names)
        assert set(model.distances(output.recon, tones(2))) == {"mse", "stft"}
        assert bool(output.statistics.sums) == (family.startswith("vqvae") and mode)
