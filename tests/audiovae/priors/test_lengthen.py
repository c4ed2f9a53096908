import pytest
import torch
from tiny_priors import KINDS, awake, whole

from audiovae import ModelError
from audiovae.priors.lengthen import generate, mixed, noise_of

CHUNKED = {"fade": 8, "chunk_frames": 4}
QUICK = {"real": {"steps": 2}, "codes": {}}


@pytest.fixture(params=KINDS)
def prior(request):
    """A prior with a context of 12 frames, in double precision, so that rounding decides on no code."""
    return awake(request.param).eval().double()


def drawn(prior, items, frames, seed=3, **more):
    return generate(prior, seed, range(items), frames, **QUICK[prior.latents.kind], **more)


def test_any_number_of_frames_can_be_drawn(prior):
    for frames in (1, 11, 12, 13, 18, 19, 50):
        found = drawn(prior, 2, frames)
        assert found.shape == (2, prior.latents.rows, frames)
        assert found.double().isfinite().all()


def test_a_sequence_is_a_function_of_seed_and_number(prior):
    several = drawn(prior, 3, 30)
    assert torch.equal(drawn(prior, 3, 30), several)
    torch.testing.assert_close(drawn(prior, 2, 30), several[:2])
    torch.testing.assert_close(drawn(prior, 20, 30)[:3], several)
    assert len(torch.cat([several, drawn(prior, 3, 30, seed=4)]).unique(dim=0)) == 6
    # A longer one begins alike.
    for frames in (5, 12, 20):
        torch.testing.assert_close(drawn(prior, 3, frames), several[:, :, :frames])


def test_each_window_continues_the_half_before(prior):
    found = drawn(prior, 1, 18)
    again = prior.sample(
        noise_of(3, [0], 1, torch.device("cpu")), 12, given=found[:, :, 6:12], **QUICK[prior.latents.kind]
    )
    torch.testing.assert_close(again[:, :, 6:], found[:, :, 12:])


def test_a_beginning_stays_as_it_is(prior):
    for count in (1, 7, 12, 25):
        given = torch.cat([whole(prior, 2, seed) for seed in range(3)], 2)[:, :, :count].to(
            prior.example_target(1).dtype
        )
        found = drawn(prior, 2, 30, given=given)
        assert torch.equal(found[:, :, :count], given)
        assert torch.equal(drawn(prior, 2, 30, given=given[0])[1, :, :count], given[0])


def test_windows_are_whole_chunks():
    prior = awake("codes", {"fade": 8, "chunk_frames": 4}).eval()
    calls = []
    sample = prior.sample
    prior.sample = lambda *arguments, **options: calls.append(arguments[3]) or sample(*arguments, **options)
    assert generate(prior, 0, range(1), 24).shape == (1, 3, 24)
    # A third of the context: half of it would end within a chunk.
    assert [0 if given is None else given.shape[2] for given in calls] == [0, 4, 4]
    with pytest.raises(
        ModelError, match=r"^the sequence has 23 frames: choose a multiple of 4, the frames of a chunk$"
    ):
        generate(prior, 0, range(1), 23, given=whole(prior, 1)[:, :, :4])
    with pytest.raises(
        ModelError, match=r"^the beginning has 3 frames: choose a multiple of 4, the frames of a chunk$"
    ):
        generate(prior, 0, range(1), 24, given=whole(prior, 1)[:, :, :3])


def test_a_context_of_one_chunk_cannot_be_continued():
    prior = awake("codes", {"fade": 8, "chunk_frames": 12}).eval()
    assert generate(prior, 0, range(1), 12).shape == (1, 3, 12)
    with pytest.raises(
        ModelError, match=r"^24 frames: the context of this prior is a single chunk of 12, which it cannot"
    ):
        generate(prior, 0, range(1), 24)


def test_what_cannot_be_lengthened_is_refused(prior):
    with pytest.raises(ModelError, match=r"^0 sequences of 5 frames: at least one of each$"):
        generate(prior, 0, range(0), 5)
    with pytest.raises(
        ModelError, match=r"^a beginning of shape \[1, \d, 12\]: expected \[\d, fewer than 12\] or \[1, "
    ):
        generate(prior, 0, range(1), 12, given=whole(prior, 1))


def test_seeds_of_neighbours_differ():
    seeds = {mixed(seed, item, window) for seed in (-1, 0, 1, 1 << 60) for item in range(9) for window in range(9)}
    assert len(seeds) == 4 * 81
    assert all(0 <= seed < 1 << 63 for seed in seeds)
