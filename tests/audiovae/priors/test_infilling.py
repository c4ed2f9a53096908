"""Sequences between two others."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_priors import awake, whole

from audiovae import ModelError
from audiovae.priors.infilling import fill

CHUNKED = {"fade": 8, "chunk_frames": 4}


def quick(latents: dict | None = None):
    """A prior with a context of 12 frames that draws in two steps, and the list of its calls (frames, given, known)."""
    prior = awake("real", latents).eval().double()
    calls = []
    sample = prior.sample

    def spied(noise, frames, temperature, given=None, known=None, condition=None, **_):
        calls.append((frames, given, known))
        return sample(noise, frames, temperature, given, known, condition, steps=2)

    prior.sample = spied
    return prior, calls


def sequence(prior, frames: int, seed: int) -> torch.Tensor:
    return whole(prior, 1, seed)[0].repeat(1, 4)[:, :frames].double() / 256


@given(frames=st.integers(1, 40), before=st.integers(1, 30), after=st.integers(1, 30))
@settings(max_examples=12, deadline=None)
def test_the_last_window_knows_both_sides(frames, before, after):
    prior, calls = quick()
    ends = sequence(prior, before, 0), sequence(prior, after, 1)
    found = fill(prior, 3, range(2), frames, ends)
    assert found.shape == (2, 5, frames)
    assert found.isfinite().all()
    assert not torch.equal(found[0], found[1])
    length, given, known = calls[-1]
    new = min(6, frames)
    assert length <= 12
    first = int((~known[0]).long().argmax())
    assert known.sum(1).tolist() == [length - new] * 2
    assert not known[:, first : first + new].any()
    behind = length - first - new
    assert first >= 1
    assert behind >= 1
    left = torch.cat([ends[0].expand(2, -1, -1), found[:, :, : frames - new]], 2)
    assert torch.equal(given[:, :, :first], left[:, :, left.shape[2] - first :])
    assert torch.equal(given[:, :, first + new :], ends[1][:, :behind].expand(2, -1, -1))
    if frames > 6 and after >= 3:
        assert (length, first, behind) == (12, 3, 3) or left.shape[2] < 3
    # What the last window does not hold continues the first sequence alone.
    assert all(one[2] is None for one in calls[:-1])
    assert (len(calls) > 1) == (frames > 6)


def test_a_gap_is_a_function_of_seed_and_number():
    prior, _ = quick()
    ends = sequence(prior, 9, 0), sequence(prior, 9, 1)
    several = fill(prior, 3, range(3), 20, ends)
    torch.testing.assert_close(fill(prior, 3, [2], 20, ends)[0], several[2])
    torch.testing.assert_close(fill(prior, 3, range(18), 20, ends)[:3], several)
    assert not torch.equal(fill(prior, 4, range(3), 20, ends), several)
    # The end has an effect on the last window only.
    other = fill(prior, 3, range(3), 20, (ends[0], -ends[1]))
    assert torch.equal(other[:, :, :14], several[:, :, :14])
    assert not torch.equal(other[:, :, 14:], several[:, :, 14:])


def test_windows_are_whole_chunks():
    prior, calls = quick(CHUNKED)
    fill(prior, 0, range(1), 12, (sequence(prior, 8, 0), sequence(prior, 8, 1)))
    assert calls[-1][2][0].tolist() == [True] * 4 + [False] * 4 + [True] * 4
    prior.latents = dataclasses.replace(prior.latents, chunk_frames=6)
    with pytest.raises(ModelError, match=r"^the context of this prior is too short for a gap \(2 units of latents;"):
        fill(prior, 0, range(1), 6, (sequence(prior, 6, 0), sequence(prior, 6, 1)))


def test_a_prior_of_codes_fills_no_gap():
    prior = awake("codes").eval()
    with pytest.raises(ModelError, match=r"^this prior of codes cannot fill a gap: .* use a prior of a VAE or an"):
        fill(prior, 0, range(1), 4, (whole(prior, 1)[0], whole(prior, 1)[0]))
