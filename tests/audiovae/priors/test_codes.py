import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_priors import as_audio, awake, make, noise, records, whole

from audiovae import ModelError
from audiovae.priors.codes import FINE, choose
from audiovae.priors.delay import delayed, undelayed

PERIOD = 5


@given(books=st.integers(1, 6), frames=st.integers(1, 9), items=st.integers(1, 3))
@settings(max_examples=40)
def test_the_delay_pattern_can_be_undone(books, frames, items):
    codes = torch.arange(items * books * frames).view(items, books, frames)
    steps = delayed(codes, -1)
    assert steps.shape == (items, books, frames + books - 1)
    assert torch.equal(undelayed(steps), codes)
    for book in range(books):
        assert torch.equal(steps[:, book, book : book + frames], codes[:, book])
    assert (steps == -1).sum() == items * books * (books - 1)


@given(book=st.integers(0, 2), frame=st.integers(0, 11), code=st.integers(0, 6))
@settings(max_examples=30)
def test_a_code_changes_no_earlier_logit(book, frame, code):
    prior = awake("codes").eval().double()
    codes = whole(prior, 1)
    changed = codes.clone()
    changed[0, book, frame] = code
    before, after = prior.predicted(codes), prior.predicted(changed)
    assert torch.equal(after[:, : frame + book + 1], before[:, : frame + book + 1])
    if code != codes[0, book, frame] and frame + book + 1 < before.shape[1]:
        assert not torch.equal(after[:, frame + book + 1], before[:, frame + book + 1])


def drawn_without_cache(prior, source, frames, temperature, given=None, top_k=0):
    """What `sample` draws, from a whole pass for each step."""
    items, books = len(source.rows), prior.latents.rows
    count = 0 if given is None else given.shape[2]
    codes = torch.zeros(items, books, frames, dtype=torch.int64)
    codes[:, :, :count] = 0 if given is None else given
    for step in range(count, frames + books - 1):
        logits = prior.predicted(codes)[:, step]
        drawn = choose(logits, source.integers(FINE, books), temperature, top_k)
        for book in range(books):
            if count <= step - book < frames:
                codes[:, book, step - book] = drawn[:, book]
    return codes


@pytest.mark.parametrize("count", [0, 1, 5, 11])
@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.7, 3), (0.0, 0)])
def test_the_cache_changes_no_code(count, temperature, top_k):
    prior = awake("codes").eval().double()
    given = whole(prior, 4)[:, :, :count] if count else None
    drawn = prior.sample(noise(4), 12, temperature, given, top_k=top_k)
    assert torch.equal(drawn, drawn_without_cache(prior, noise(4), 12, temperature, given, top_k))
    if count:
        assert torch.equal(drawn[:, :, :count], given)
    elif temperature:
        assert len(drawn.unique(dim=0)) == 4


def test_given_codes_are_a_beginning():
    prior = awake("codes").eval()
    given = whole(prior, 2)
    known = torch.arange(12).expand(2, -1) < 4
    drawn = prior.sample(noise(2), 12, given=given, known=known)
    assert torch.equal(drawn, prior.sample(noise(2), 12, given=given[:, :, :4]))
    assert torch.equal(prior.sample(noise(2), 12, given=given), given)
    for wrong in (known.flip(1), known & torch.tensor([[True], [False]])):
        with pytest.raises(ModelError, match=r"^a prior of codes continues a beginning of one length: it cannot fill"):
            prior.sample(noise(2), 12, given=given, known=wrong)
    for wrong in (given + 7, given - 7, given.float()):
        with pytest.raises(ModelError, match=r"^given codes must be whole numbers from 0 to 6$"):
            prior.sample(noise(2), 12, given=wrong)
    with pytest.raises(ModelError, match=r"^top_k is -1: 0 for all codes, or 1 and more$"):
        prior.sample(noise(2), 12, top_k=-1)


def test_codes_are_chosen_by_their_share():
    logits = torch.tensor([0.5, 0.0, 0.3, 0.2]).log().expand(20_000, 4)
    numbers = torch.randint(FINE, (20_000,), generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(choose(logits, numbers, 1.0, 0), minlength=4) / 20_000
    torch.testing.assert_close(counts, torch.tensor([0.5, 0.0, 0.3, 0.2]), atol=0.015, rtol=0)
    assert counts[1] == 0
    counts = torch.bincount(choose(logits, numbers, 0.5, 2), minlength=4) / 20_000
    torch.testing.assert_close(counts, torch.tensor([25, 0, 9, 0]) / 34, atol=0.015, rtol=0)
    for temperature, top_k in ((0.0, 0), (1e-300, 0), (1.0, 1)):
        assert (choose(logits, numbers, temperature, top_k) == 0).all()
    ends = torch.tensor([0, FINE - 1])
    assert choose(torch.tensor([-torch.inf, 0.0, -torch.inf]).expand(2, 3), ends, 1.0, 0).tolist() == [1, 1]


def test_training_begins_at_the_entropy_of_single_codes():
    prior = make("codes")
    rare = torch.rand(64, 3, 12, generator=torch.Generator().manual_seed(0)) < 0.1
    codes = torch.where(rare, 3, 1)
    assert prior.eval()(codes).losses["prior"].mean().item() == pytest.approx(math.log(7), rel=1e-5)
    prior.calibrate(as_audio(codes).split(16))
    share = rare.float().mean().item()
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    output = prior(codes)
    assert output.losses["prior"].mean().item() == pytest.approx(entropy, rel=0.03)
    bits = output.losses["prior"].mean().item() / math.log(2) * 3 * 22050 / 490
    assert output.metrics["bits_per_second"].item() == pytest.approx(bits)
    assert [buffer.shape for buffer in prior.calibrated()] == [(21,)]


def test_data_with_other_codes_are_refused():
    prior = make("codes")
    with pytest.raises(ModelError, match=r"^the data hold codes from 0 to 9, and codes are 0 to 6; encode"):
        prior.calibrate([as_audio(torch.tensor([0, 9, 3]).view(1, 3, 1).expand(2, 3, 12))])
    with pytest.raises(ValueError, match=r"^400 codebooks of 4096 codes are 1638400 in all: at most 1048576$"):
        make("codes", {"rows": 400, "size": 4096})


def test_a_prior_learns_a_period_and_draws_it():
    prior = make("codes", {"frames": 20}, {"width": 32, "dropout": 0.0})
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randint(7, (3, PERIOD), generator=generator)

    def phases(items: int) -> torch.Tensor:
        first = torch.randint(PERIOD, (items, 1), generator=generator)
        return pattern[:, (first + torch.arange(20)) % PERIOD].transpose(0, 1)

    prior.calibrate([as_audio(phases(64))])
    optimizer = torch.optim.AdamW(prior.parameters(), lr=1e-2, fused=True)
    losses = []
    for step in range(80):
        loss = prior(phases(8), noise(8, step)).losses["prior"].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    # Only the phase is left to say, once in a sequence of 60 codes.
    assert losses[0] > 1.0
    assert losses[-1] < 0.1
    drawn = prior.eval().sample(noise(32), 20)
    assert (drawn[:, :, PERIOD:] == drawn[:, :, :-PERIOD]).float().mean() > 0.9
    assert len({tuple(one.flatten().tolist()) for one in drawn[:, :, :PERIOD]}) >= PERIOD - 1


def test_records_hold_frame_after_frame():
    prior = make("codes")
    assert torch.equal(prior.represent(records(prior, 3)), whole(prior, 3))
