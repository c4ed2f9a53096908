"""Parts of a model: which tensors belong to them, what another model gives, and what stays frozen."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiovae import ModelError, build
from audiovae.models.parts import check_parts, freeze, is_within, parts_of, take
from audiovae.results import Statistics

TRUNK = {"strides": [21, 5], "channels": [8, 8], "blocks": 1}
QUANTIZER = {"codebooks": 2, "size": 4, "start_step": 1}


def vqvae(latent: int = 4, seed: int = 0):
    torch.manual_seed(seed)
    return build("vqvae", {"trunk": TRUNK, "latent": latent, "quantizer": QUANTIZER}, 2205, 22050)


words = st.lists(st.sampled_from(["encoder", "enc", "decoder", "stem", "0"]), min_size=1, max_size=4)


@given(name=words, part=words)
def test_a_part_holds_what_begins_with_all_its_words(name, part):
    assert is_within(".".join(name), ".".join(part)) == (name[: len(part)] == part)


def test_everything_is_taken_from_a_model_of_the_same_settings():
    source, model = vqvae(seed=1), vqvae(seed=2)
    source.quantizer.started.fill_(True)
    taken = take(model, source.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in source.state_dict().items())
    assert model.quantizer.quantizing
    assert taken.new == {}
    assert taken.calibrated
    assert sum(taken.values.values()) == sum(value.numel() for value in model.state_dict().values())


@pytest.mark.parametrize("part", ["encoder", "decoder", "quantizer", "decoder.refine"])
def test_a_part_alone_is_taken(part):
    source, model = vqvae(seed=1), vqvae(seed=2)
    for value in source.state_dict().values():
        value.copy_(torch.ones_like(value))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    part = part if any(is_within(name, part) for name in before) else "decoder"
    taken = take(model, source.state_dict(), [part])
    for name, value in model.state_dict().items():
        along = is_within(name, part) or is_within(name, "representation")
        assert torch.equal(value, (source.state_dict() if along else before)[name]), name
    assert part.partition(".")[0] in taken.values
    assert taken.new


def test_other_shapes_are_refused_and_name_the_parts_that_fit():
    source, model = vqvae(), vqvae(latent=6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ModelError, match=r"tensors do not fit: encoder\.\S+ is \[.*\] there and \[.*\] here"):
        take(model, source.state_dict())
    given = {name: value for name, value in model.state_dict().items() if not is_within(name, "quantizer")}
    with pytest.raises(ModelError, match=r"is missing there and .*; parts that fit: encoder, decoder$"):
        take(model, given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_part_that_is_none_is_named():
    with pytest.raises(ModelError, match="no part 'encodr'; the model has representation, encoder, quantizer, decoder"):
        take(vqvae(), vqvae().state_dict(), ["encodr"])
    with pytest.raises(ModelError, match="no part 'enc'"):
        check_parts(vqvae(), ["encoder", "enc"])
    assert parts_of(vqvae()) == ["representation", "encoder", "quantizer", "decoder"]


def test_frozen_parts_have_no_gradient_and_frozen_codebooks_no_update():
    model = vqvae()
    freeze(model, ["encoder", "quantizer"])
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"decoder"}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.update(Statistics({"sum": torch.ones(4)}, {}), 5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ModelError, match="nothing is left to train"):
        freeze(model, ["decoder"])


def test_a_frozen_norm_keeps_its_estimates():
    model = build("vae", {"trunk": TRUNK, "latent": 2, "batch_norm": True}, 2205, 22050)
    sums = {"count": torch.tensor(4.0), "total": torch.ones(2), "squares": torch.ones(2)}
    freeze(model, ["norm"])
    model.update(Statistics(sums, {}), 1)
    assert model.norm.mean.tolist() == [0, 0]
    assert model.norm.updates == 0
    model.norm.frozen = False
    model.update(Statistics(sums, {}), 1)
    assert model.norm.mean.tolist() == [0.25, 0.25]
