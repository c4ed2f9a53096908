"""What priors of both kinds promise: exact latents, a loss for each item alone, random numbers from `Noise` alone."""

import copy
import dataclasses
import re

import pytest
import torch
from tiny_priors import KINDS, awake, config, make, noise, records, whole
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from audiovae import ModelError
from audiovae.models.settings import from_dict
from audiovae.priors.settings import PriorConfig
from audiovae.saved.kinds import build_any
from train.training.performance.flops import NoNoise, _without_content

ITEMS = 6
SPLITS = ([[0, 2, 4], [1, 3, 5]], [[i] for i in range(ITEMS)], [[5, 1, 3], [4], [2, 0]])


def train_pass(prior, target, parts) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of each item, and gradients of their sum."""
    prior.zero_grad()
    losses = torch.full((len(target),), torch.nan)
    for rows in parts:
        output = prior(target[rows], noise(len(target), 3, rows))
        assert set(output.losses) == set(prior.loss_names)
        output.losses["prior"].sum().backward()
        losses[rows] = output.losses["prior"].detach()
    return losses, {name: parameter.grad.clone() for name, parameter in prior.named_parameters()}


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_split_batch_gives_the_same_losses_and_gradients(kind, split):
    prior = awake(kind)
    target = prior.represent(records(prior, ITEMS))
    losses, grads = train_pass(prior, target, [list(range(ITEMS))])
    split_losses, split_grads = train_pass(prior, target, split)
    assert losses.std() > 0
    torch.testing.assert_close(split_losses, losses, rtol=1e-5, atol=1e-6)
    for name, grad in grads.items():
        torch.testing.assert_close(split_grads[name], grad, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        assert grad.abs().sum() > 0, f"{name} learns nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_every_random_number_comes_from_the_noise(kind):
    prior = awake(kind)
    target = prior.represent(records(prior, ITEMS))
    before = torch.get_rng_state()
    first = prior(target, noise(ITEMS)).losses["prior"]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(prior(target, noise(ITEMS)).losses["prior"], first)
    assert not torch.equal(prior(target, noise(ITEMS, step=1)).losses["prior"], first)
    assert not torch.equal(prior(target).losses["prior"], prior(target).losses["prior"])
    before = torch.get_rng_state()
    prior.eval()
    assert torch.equal(prior(target).losses["prior"], prior(target).losses["prior"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_and_noise_of_the_data_are_for_training_only(kind):
    prior = awake(kind)
    target = prior.represent(records(prior, ITEMS))
    calm = awake(kind, transformer={"dropout": 0.0}, noise=0.0)
    assert not torch.equal(prior(target, noise(ITEMS)).losses["prior"], calm(target, noise(ITEMS)).losses["prior"])
    held = [one.eval()(target, noise(ITEMS)).losses["prior"] for one in (prior, calm)]
    assert torch.equal(*held)


def test_dropout_leaves_out_its_share_and_keeps_the_mean():
    dropout = make("real", transformer={"width": 256, "dropout": 0.2}).trunk.dropout(noise(ITEMS), 200)
    first, second = (dropout(torch.ones(ITEMS, 200, 256), place) for place in (0, 1))
    assert set(first.unique().tolist()) == {0.0, 1.25}
    for mask in (first, second):
        assert (mask == 0).float().mean().item() == pytest.approx(0.2, abs=0.005)
        for dim in ((1, 2), (0, 2), (0, 1)):  # of an item, a frame, a feature
            assert (mask.mean(dim) - 1).abs().max() < 0.1
    assert ((first == 0) & (second == 0)).float().mean().item() == pytest.approx(0.04, abs=0.005)
    # Of neighbouring frames and features, too.
    zero = first == 0
    for pair in ((zero[:, 1:], zero[:, :-1]), (zero[..., 1:], zero[..., :-1])):
        assert (pair[0] & pair[1]).float().mean().item() == pytest.approx(0.04, abs=0.005)
    assert (zero[0] & zero[1]).float().mean().item() == pytest.approx(0.04, abs=0.01)


def test_represent_gives_the_stored_latents_exactly():
    codes = make("codes", latents={"size": 1 << 15})
    stored = torch.randint(1 << 15, (4, 3, 12))
    stored[0, 0, :2] = torch.tensor([0, (1 << 15) - 1])
    audio = (stored.transpose(1, 2).reshape(4, 1, -1).to(torch.int16)).float() / 32768
    assert torch.equal(codes.represent(audio), stored)
    real = make("real")
    stored = torch.randint(-(1 << 15), 1 << 15, (4, 5, 12))
    audio = (stored.transpose(1, 2).reshape(4, 1, -1).to(torch.int16)).float() / 32768
    assert torch.equal(real.represent(audio), stored / 256)


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_has_the_shape_and_type_of_a_batch(kind):
    prior = make(kind)
    target = prior.represent(records(prior, 2))
    example = prior.example_target(2)
    assert (example.shape, example.dtype) == (target.shape, target.dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_survive_plain_values(kind):
    prior = awake(kind, given=0.25)
    again = build_any("prior", dataclasses.asdict(prior.config), prior.samples, prior.rate)
    assert again.config == prior.config
    again.load_state_dict(copy.deepcopy(prior.state_dict()))
    target = prior.represent(records(prior, 2))
    assert torch.equal(*(one.eval()(target, noise(2)).losses["prior"] for one in (prior, again)))


@pytest.mark.parametrize("kind", KINDS)
def test_operations_are_counted_without_content(kind):
    prior = awake(kind)
    with FakeTensorMode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        hollow = _without_content(prior)
        hollow(hollow.example_target(2), NoNoise(2)).losses["prior"].mean().backward()
    steps = prior.latents.frames + (prior.latents.rows - 1) * (kind == "codes")
    matrices = sum(p.numel() for name, p in prior.trunk.named_parameters() if p.dim() == 2 and "modulation" not in name)
    attention = 2 * steps * prior.trunk.config.width * prior.trunk.config.layers
    assert counter.get_total_flops() >= 6 * 2 * steps * (matrices + attention)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_changes_the_loss_little(kind):
    prior = awake(kind).eval()
    target = prior.represent(records(prior, ITEMS))
    exact = prior(target, noise(ITEMS)).losses["prior"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = prior(target, noise(ITEMS)).losses["prior"]
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformer": {"width": 30}}, "transformer.width is 30: choose a multiple of 4, twice transformer.heads"),
        ({"transformer": {"width": 1 << 14}}, "transformer.width is 16384: choose 1 to 8192"),
        ({"transformer": {"layers": 0}}, "transformer.layers is 0: choose 1 to 256"),
        ({"transformer": {"dropout": 1.0}}, "transformer.dropout is 1.0: a probability, at least 0 and below 1"),
        ({"transformer": {"feed_forward": 0}}, "transformer.feed_forward is 0: choose 1 to 32"),
        ({"given": 1.5}, "given is 1.5: a share, 0 to 1"),
        ({"noise": -0.1}, "noise is -0.1: choose 0 to 1"),
        ({"latents": {"rows": 4}}, "samples is 60: records of 12 frames of 4 rows have 48"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_any("prior", config("real", **changes), 60, 225)


def test_a_prior_takes_its_own_kind_of_latents_only():
    real, codes = (from_dict(PriorConfig, config(kind)) for kind in ("real", "codes"))
    with pytest.raises(ValueError, match=r"^latents.kind is codes: a flow prior takes real latents$"):
        type(make("real"))(codes, 36, 225)
    with pytest.raises(ValueError, match=r"^latents.kind is real: a code prior takes codes$"):
        type(make("codes"))(real, 60, 225)
    with pytest.raises(TypeError, match=r"^LatentsConfig is not an object$"):
        build_any("prior", {"latents": None}, 60, 225)


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_drawn_is_refused(kind):
    prior = awake(kind).eval()
    given = whole(prior, 2)
    with pytest.raises(ModelError, match=r"^temperature is nan: choose 0 to 10$"):
        prior.sample(noise(2), 12, float("nan"))
    with pytest.raises(ModelError, match=r"^13 frames: this prior draws 1 to 12 at once"):
        prior.sample(noise(2), 13)
    with pytest.raises(ModelError, match=r"^given latents of shape \[2, \d, 12\]: expected \[2, \d, at most 11\]$"):
        prior.sample(noise(2), 11, given=given)
    with pytest.raises(ModelError, match=r"^known frames of shape \[2, 3\] and type torch.bool: expected bool \[2, 12"):
        prior.sample(noise(2), 12, given=given, known=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ModelError, match=r"^known frames without given latents: give both$"):
        prior.sample(noise(2), 12, known=torch.ones(2, 12, dtype=torch.bool))
