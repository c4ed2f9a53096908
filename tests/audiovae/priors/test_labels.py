"""Labels of records, and guidance by them."""

import dataclasses
import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_priors import KINDS, LATENTS, SHARED, as_audio, awake, config, make, noise, records, whole

import audiovae
from audiovae import ModelError
from audiovae.priors.codes import FINE, choose
from audiovae.priors.conditions import Condition, make_condition
from audiovae.priors.latents import LONGEST_LABEL, MOST_LABELS, LatentsConfig
from audiovae.priors.lengthen import generate
from audiovae.saved.kinds import build_any, latents_of
from audiovae.saved.model_folder import load_any

NAMES = ["bass", "drums", "horns"]
LABELLED = {"labels": NAMES}
QUICK = {"real": {"steps": 2}, "codes": {}}


def labelled(prior, labels: list[int]) -> torch.Tensor:
    """Records with these labels, as the training loop gives them: [items, 1, samples]."""
    last = torch.tensor(labels).float().view(-1, 1, 1) / 32768
    return torch.cat([records(prior, len(labels)), last], 2)


def awake_with_labels(kind, **more):
    """A prior with labels in double precision, in evaluation mode."""
    torch.manual_seed(0)
    values = config(kind, LABELLED, **more)
    prior = build_any("prior", values, LatentsConfig(**values["latents"]).numbers, 225)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return prior.eval().double()


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=4), kind=st.sampled_from(KINDS))
@settings(max_examples=30, deadline=None)
def test_records_hold_latents_and_label_exactly(labels, kind):
    prior = awake_with_labels(kind).float()
    audio = labelled(prior, labels)
    assert audio.shape[2] == prior.samples == prior.latents.values + 1
    target = prior.represent(audio)
    latents, found = prior.parted(target, None)
    assert found.tolist() == labels
    plain = make(kind)
    assert torch.equal(latents, plain.represent(as_audio(whole(plain, len(labels)))))
    example = prior.example_target(len(labels))
    assert (example.shape, example.dtype) == (target.shape, target.dtype)


def test_the_largest_number_of_a_label_is_exact():
    prior = make_with([f"{i:04d}" for i in range(MOST_LABELS)])
    last = torch.tensor([MOST_LABELS, MOST_LABELS - 1]).float().view(2, 1, 1) / 32768
    target = prior.represent(torch.cat([records(prior, 2), last], 2))
    assert prior.parted(target, None)[1].tolist() == [MOST_LABELS, MOST_LABELS - 1]


def make_with(names):
    values = config("real", {"labels": names})
    return build_any("prior", values, LatentsConfig(**values["latents"]).numbers, 225).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_without_labels_nothing_is_new(kind):
    """No parameter, no setting in the fingerprint, no entry in the manifest; an old description is read."""
    prior = awake(kind)
    assert not [name for name in prior.state_dict() if "label" in name]
    old = SHARED | LATENTS[kind]
    assert latents_of({"latents": old}).to_dict() == old
    values = dataclasses.asdict(prior.config)
    del values["latents"]["labels"], values["settings"]["unlabelled"]
    again = build_any("prior", values, prior.samples, prior.rate)
    assert again.config == prior.config
    again.load_state_dict(prior.state_dict())
    assert audiovae.fingerprint(again) == audiovae.fingerprint(prior)
    assert audiovae.fingerprint(make(kind, unlabelled=0.5)) != audiovae.fingerprint(make(kind))
    target = prior.represent(records(prior, 4))
    other = make(kind, unlabelled=1.0)
    other.load_state_dict(prior.state_dict())
    assert torch.equal(*(one(target, noise(4)).losses["prior"] for one in (prior, other)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_has_an_effect_only_after_it_is_learned(kind):
    values = config(kind, LABELLED, {"dropout": 0.0}, unlabelled=0.0)
    torch.manual_seed(0)
    prior = build_any("prior", values, LatentsConfig(**values["latents"]).numbers, 225)
    first, other = (prior.represent(labelled(prior, [number] * 3)) for number in (1, 2))
    assert torch.equal(*(prior(one, noise(3)).losses["prior"] for one in (first, other)))
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    assert not torch.equal(*(prior(one, noise(3)).losses["prior"] for one in (first, other)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_labels_is_left_out_whatever_the_processes(kind):
    prior = awake_with_labels(kind, unlabelled=0.3).train()
    target = torch.zeros(4000, 1, 2)
    target[:, :, -1] = 2
    _, found = prior.parted(target, noise(4000))
    assert (found == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert set(found.tolist()) == {0, 2}
    rows = [7, 3000, 12]
    assert torch.equal(prior.parted(target[rows], noise(4000, rows=rows))[1], found[rows])
    assert not torch.equal(prior.parted(target, noise(4000, 1))[1], found)
    assert (prior.eval().parted(target, noise(4000))[1] == 2).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_batch_has_the_same_losses(kind):
    prior = awake_with_labels(kind, unlabelled=0.5).float().train()
    target = prior.represent(labelled(prior, [0, 1, 2, 3, 1, 2]))
    losses = prior(target, noise(6)).losses["prior"]
    apart = torch.cat([prior(target[rows], noise(6, rows=rows)).losses["prior"] for rows in ([0, 3], [1, 2, 4, 5])])
    torch.testing.assert_close(apart, losses[[0, 3, 1, 2, 4, 5]], rtol=1e-5, atol=1e-6)
    losses.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in prior.parameters())


def sampled(prior, label=None, guidance=1.0, frames=12, **more):
    options = QUICK[prior.latents.kind] | more
    return prior.sample(noise(4), frames, condition=make_condition(NAMES, label, 4, guidance), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_of_one_is_the_label_and_of_zero_is_none(kind):
    prior = awake_with_labels(kind)
    drums, none = sampled(prior, "drums"), sampled(prior)
    assert torch.equal(prior.sample(noise(4), 12, condition=Condition(torch.full((4,), 2)), **QUICK[kind]), drums)
    torch.testing.assert_close(sampled(prior, "drums", 1 + 1e-12), drums)
    torch.testing.assert_close(sampled(prior, "drums", 0.0), none)
    assert torch.equal(sampled(prior, [None] * 4), none)
    different = [drums, none, sampled(prior, "bass"), sampled(prior, "drums", 3.0)]
    assert all(not torch.equal(a, b) for i, a in enumerate(different) for b in different[:i])
    mixed = sampled(prior, ["drums", None, "bass", "drums"])
    torch.testing.assert_close(mixed[[0, 3]], drums[[0, 3]])
    torch.testing.assert_close(mixed[1], none[1])
    torch.testing.assert_close(mixed[2], sampled(prior, "bass")[2])


@pytest.mark.parametrize("guidance", [0.5, 1.0, 4.0])
def test_guided_codes_are_those_of_whole_passes_without_a_cache(guidance):
    """Both passes in a batch with the cache of keys and values, against the formula on logits of whole passes."""
    prior = awake_with_labels("codes")
    source, given = noise(4), whole(prior, 4)[:, :, :3]
    drawn = prior.sample(noise(4), 12, 0.8, given, condition=make_condition(NAMES, "horns", 4, guidance))
    codes = torch.zeros_like(drawn)
    codes[:, :, :3] = given
    for step in range(3, 12 + 2):
        label, none = (prior.predicted(codes, torch.full((4,), number))[:, step] for number in (3, 0))
        found = choose(none + guidance * (label - none), source.integers(FINE, 3), 0.8, 0)
        for book in range(3):
            if 3 <= step - book < 12:
                codes[:, book, step - book] = found[:, book]
    assert torch.equal(drawn, codes)


def test_guided_velocity_is_the_formula():
    prior = awake_with_labels("real")
    seen = []
    velocity = prior.velocity
    prior.velocity = lambda *inputs: seen.append(inputs) or velocity(*inputs)
    sampled(prior, "bass", 2.5, steps=1)
    assert all(len(inputs[0]) == 8 for inputs in seen)
    x, given, known, time, labels = (one[:4] for one in seen[0])
    assert labels.tolist() == [1] * 4
    label, none = velocity(x, given, known, time, labels), velocity(x, given, known, time, 0 * labels)
    middle = x + 0.5 * (none + 2.5 * (label - none))
    torch.testing.assert_close(seen[1][0][:4], middle)
    torch.testing.assert_close(seen[1][0][4:], middle)


@pytest.mark.parametrize("kind", KINDS)
def test_every_sequence_of_many_has_its_own_label(kind):
    """More sequences than are drawn at once, of several windows."""
    prior = awake_with_labels(kind)
    names = [*NAMES, None] * 5
    many = generate(prior, 3, range(20), 15, condition=make_condition(NAMES, names, 20, 2.0), **QUICK[kind])
    for item in (0, 15, 16, 18, 19):
        one = make_condition(NAMES, [names[item]], 1, 2.0) if names[item] else None
        torch.testing.assert_close(generate(prior, 3, [item], 15, condition=one, **QUICK[kind])[0], many[item])


@pytest.mark.parametrize("kind", KINDS)
def test_records_that_hold_no_label_are_refused(kind):
    prior = awake_with_labels(kind)
    numbers = (labelled(prior, [0, 3])[:, 0] * 32768).round().to(torch.int16)
    prior.check_records(numbers)
    for wrong in (-1, 4):
        numbers[1, -1] = wrong
        with pytest.raises(ModelError, match=r"^the data hold labels from -?\d to \d, and labels are 0 to 3; encode"):
            prior.check_records(numbers)


def test_a_saved_prior_keeps_its_labels(tmp_path):
    prior = awake_with_labels("codes").float()
    audiovae.save(prior, tmp_path / "model")
    again = load_any(tmp_path / "model")
    assert again.latents.labels == NAMES
    assert audiovae.fingerprint(again) == audiovae.fingerprint(prior)
    assert torch.equal(sampled(again, "bass", 2.0), sampled(prior, "bass", 2.0))
    about = json.loads((tmp_path / "model" / "config.json").read_text())
    assert about["config"]["latents"]["labels"] == NAMES


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("drums", "labels must be a list of at most 4096 entries"),
        ([f"{i:05d}" for i in range(MOST_LABELS + 1)], "labels must be a list of at most 4096 entries"),
        ([1], "the label 1: use printable text of 1 to 100 characters"),
        ([""], "the label '': use printable text"),
        (["x" * (LONGEST_LABEL + 1)], "use printable text of 1 to 100 characters"),
        (["a\x1b[31m"], "use printable text"),
        (["b", "a"], "the labels are not sorted, or one is there twice"),
        (["a", "a"], "the labels are not sorted, or one is there twice"),
    ],
    ids=lambda one: str(one)[:20],
)
def test_labels_of_a_strangers_manifest_are_checked(labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        latents_of({"latents": SHARED | LATENTS["real"] | {"labels": labels}})


def test_what_cannot_be_asked_for_is_refused():
    with pytest.raises(ModelError, match=r"^label 'harp' is unknown: this prior has bass, drums, horns$"):
        make_condition(NAMES, "harp", 2)
    with pytest.raises(ModelError, match=r"^label 'drums': this prior has learned no labels; encode .*encode --labels"):
        make_condition([], "drums", 2)
    for wrong in (-0.1, 21.0, float("nan")):
        with pytest.raises(ModelError, match=r"^guidance is .*: choose 0 to 20"):
            make_condition(NAMES, "drums", 2, wrong)
    with pytest.raises(ModelError, match=r"^guidance is 2.0: it leads towards a label; name one$"):
        make_condition(NAMES, None, 2, 2.0)
    with pytest.raises(ModelError, match=r"^1 labels for 2 recordings: give one for all, or one for each$"):
        make_condition(NAMES, ["drums"], 2)
    with pytest.raises(ValueError, match=r"^unlabelled is 1.5: a share, 0 to 1$"):
        make("real", unlabelled=1.5)
    with pytest.raises(ModelError, match=r"^4 labels for 4 sequences of a prior that has no labels$"):
        make("codes").eval().sample(noise(4), 12, condition=Condition(torch.ones(4, dtype=torch.int64)))
    with pytest.raises(ValueError, match=r"^samples is 60: records of 12 frames of 5 rows have 61, that of the label"):
        build_any("prior", config("real", LABELLED), 60, 225)
