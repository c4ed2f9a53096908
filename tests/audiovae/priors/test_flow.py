import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_priors import as_audio, awake, make, noise, records

from audiovae import ModelError
from audiovae.priors.flow import given_frames, times

MODES = ((500, -250), (-500, 250))  # of whole numbers in records
FRAMES = 6


def two_modes(items: int, seed: int) -> torch.Tensor:
    """Sequences that stay near one of two points, chosen by chance: whole numbers [items, 2, FRAMES]."""
    draw = torch.Generator().manual_seed(seed)
    mode = torch.tensor(MODES)[torch.randint(2, (items,), generator=draw)]
    return mode.unsqueeze(2) + (25 * torch.randn(items, 2, FRAMES, generator=draw)).round().long()


@pytest.fixture(scope="module")
def trained():
    """A prior of such sequences, and its loss at the first and last steps."""
    torch.set_num_threads(1)
    prior = make("real", {"rows": 2, "frames": FRAMES}, {"width": 32, "dropout": 0.0})
    prior.calibrate([as_audio(two_modes(256, 0))])
    optimizer = torch.optim.AdamW(prior.parameters(), lr=6e-3, fused=True)
    losses = []
    for step in range(200):
        loss = prior(prior.represent(as_audio(two_modes(32, step))), noise(32, step)).losses["prior"].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return prior.eval(), losses


def nearest(latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of the nearest mode and the distance to it, of each frame: [B, frames] each."""
    modes = torch.tensor(MODES).float() / 256
    distance = (latents.unsqueeze(1) - modes[None, :, :, None]).square().sum(2).sqrt()
    return distance.argmin(1), distance.amin(1)


def test_a_flow_learns_two_modes_and_draws_both(trained):
    prior, losses = trained
    assert losses[0] == pytest.approx(2.0, abs=0.5)  # noise and data of deviation 1
    assert sum(losses[-20:]) / 20 < 0.4
    mode, distance = nearest(prior.sample(noise(200), FRAMES))
    assert 0.3 < mode.float().mean() < 0.7
    assert (mode == mode[:, :1]).float().mean() > 0.97
    assert (distance < 0.5).float().mean() > 0.8


def test_a_flow_continues_what_is_given_and_fills_gaps(trained):
    prior, _ = trained
    latents = two_modes(64, 1) / 256
    for known in ([0, 1], [4, 5], [0, 5]):
        mask = torch.zeros(64, FRAMES, dtype=torch.bool)
        mask[:, known] = True
        drawn = prior.sample(noise(64), FRAMES, given=latents, known=mask)
        assert torch.equal(drawn[:, :, known], latents[:, :, known])
        assert not torch.equal(drawn, latents)
        assert (nearest(drawn)[0] == nearest(latents)[0]).float().mean() > 0.97
        # What is given elsewhere is not looked at.
        other = torch.where(mask.unsqueeze(1), latents, 99.0)
        assert torch.equal(prior.sample(noise(64), FRAMES, given=other, known=mask), drawn)
    beginning = prior.sample(noise(64), FRAMES, given=latents[:, :, :2])
    assert torch.equal(beginning[:, :, :2], latents[:, :, :2])


def test_temperature_scales_the_noise_at_the_start(trained):
    prior, _ = trained
    cold, warm = (prior.sample(noise(64), FRAMES, temperature, steps=8) for temperature in (0.0, 1.0))
    torch.testing.assert_close(cold, cold[:1].expand_as(cold))
    assert warm.std(0).mean() > 0.5
    with pytest.raises(ModelError, match=r"^0 steps: at least 1$"):
        prior.sample(noise(1), FRAMES, steps=0)


def test_more_steps_come_closer_to_the_solution(trained):
    prior, _ = trained
    exact, *rough = (prior.sample(noise(32), FRAMES, steps=steps) for steps in (64, 4, 8, 32))
    errors = [(one - exact).square().mean().item() for one in rough]
    assert errors[0] > errors[1] > errors[2]


def test_calibration_gives_rows_mean_0_and_deviation_1():
    prior = make("real")
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([3000.0, 900.0, 300.0, 10.0, 0.0]).view(5, 1)
    numbers = (spread * torch.randn(200, 5, 12, generator=generator) + 40 * torch.arange(5).view(5, 1)).round().long()
    prior.calibrate(as_audio(numbers).split(50))
    target = prior.represent(as_audio(numbers))
    torch.testing.assert_close(target.mean((0, 2)), torch.zeros(5), atol=1e-4, rtol=0)
    # Rows below a tenth of the largest deviation stay small.
    expected = torch.tensor([1.0, 1.0, 1.0, 10 / 300, 0.0])
    torch.testing.assert_close(target.std((0, 2)), expected, rtol=0.03, atol=1e-4)
    assert {id(buffer) for buffer in prior.calibrated()} == {id(buffer) for buffer in prior.buffers()}
    constant = make("real")
    constant.calibrate([as_audio(torch.full((2, 5, 12), 7))])
    assert torch.equal(constant.represent(as_audio(torch.full((2, 5, 12), 7))), torch.zeros(2, 5, 12))
    untouched = make("real")
    untouched.calibrate([])
    assert torch.equal(untouched.scale, torch.ones(5))


def test_given_frames_do_not_count_in_the_loss():
    prior = awake("real", given=1.0).eval()
    target = prior.represent(records(prior, 32))
    known = given_frames_of_forward(prior, 32)
    assert known.any()
    assert not known.all(1).any()
    base = prior(target, noise(32)).losses["prior"]
    prior.velocity = lambda mixed, given, known, *_: torch.where(known.unsqueeze(1), 1e6, 0.0 * mixed)
    zero = prior(target, noise(32)).losses["prior"]
    assert zero.max() < 100
    assert base.max() < 1e5


def given_frames_of_forward(prior, items):
    """The frames that are given in a forward pass."""
    seen = []
    velocity = prior.velocity
    prior.velocity = lambda *arguments: seen.append(arguments[2]) or velocity(*arguments)
    prior(prior.represent(records(prior, items)), noise(items))
    prior.velocity = velocity
    return seen[0]


@given(frames=st.integers(1, 40), step=st.integers(0, 1000), share=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=40)
def test_given_frames_are_one_or_both_ends(frames, step, share):
    known = given_frames(noise(16, step), frames, share)
    assert known.shape == (16, frames)
    assert not known.all(1).any()
    assert share or not known.any()
    # One gap: what is known changes to unknown once at most, and back once at most.
    changes = known.long().diff(dim=1)
    assert ((changes == -1).sum(1) <= 1).all()
    assert ((changes == 1).sum(1) <= 1).all()


def test_each_kind_of_given_frames_occurs():
    known = given_frames(noise(2000), 10, 0.6)
    some = known.any(1)
    assert some.float().mean().item() == pytest.approx(0.6 * 0.9, abs=0.06)  # some beginnings are empty
    assert (known[:, -1] & some).float().mean() > 0.1
    assert (~known[:, -1] & some).float().mean() > 0.2


def test_times_are_logistic_normal_and_share_the_range():
    drawn = times(noise(64))
    logits = drawn.logit()
    assert logits.mean().abs() < 0.05
    assert logits.std().item() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(drawn.argsort(), torch.arange(64))
    apart = torch.cat([times(noise(64, rows=[row])) for row in range(64)])
    torch.testing.assert_close(apart, drawn)
    assert not torch.equal(times(noise(64, 1)), drawn)
