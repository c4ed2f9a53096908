"""One step of the adversarial phase against the same gradients computed simply, in one process."""

import pytest
import torch

import audiovae
from audiovae import Noise
from tests.train.arithmetic import BATCH, RATE, SAMPLES, config_of, share_of, whole_batch
from train.adversarial.losses import adversarial_loss, discriminator_loss, feature_distance
from train.config import RunConfig
from train.evaluation.measuring import heldout
from train.parallel.engine import Engine
from train.training.learner import Learner, make_learner, make_objective
from train.training.meter import Meter
from train.training.step import train_step

START = 1


def phase(family: str, loss: str, every: int = 1, microbatch: int = 2) -> tuple[RunConfig, Learner, Engine]:
    """A learner at the first step of the phase, with weights far from the initial ones in both players."""
    words = ["--adversarial.start", str(START), "--adversarial.windows", "[256,64]", "--adversarial.periods", "[3]"]
    words += ["--adversarial.filters", "2", "--adversarial.lead", "0", "--adversarial.ramp", "0"]
    words += ["--adversarial.loss", loss, "--adversarial.every", str(every), "--adversarial.weight", "0.5"]
    words += ["--model.quantizer.start_step", "0"] if family == "vqvae" else []
    config = config_of(family, *words, "--data.microbatch", str(microbatch))
    engine = Engine()
    torch.manual_seed(1)
    model = audiovae.build(family, config.model, SAMPLES, RATE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    learner = make_learner(config, model, engine, START)
    networks = learner.adversary.discriminator
    assert networks is not None
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.mul_(2).add_(0.1 * torch.randn(parameter.shape))
    learner.step = START
    learner.strategy.wrapped.train()
    return config, learner, engine


def plain_gradients(config: RunConfig, learner: Learner) -> tuple[dict, dict]:
    """Gradients of both players by name: all items in one pass, one mean, and a detached output for the second."""
    networks = learner.adversary.discriminator
    assert networks is not None
    settings = config.adversarial
    audio = heldout.to_audio(whole_batch(START), torch.device("cpu"))
    objective = make_objective(config, learner.model)
    output = learner.model(audio, Noise(config.seed, START, torch.arange(BATCH), BATCH))
    terms = learner.model.distances(output.recon, audio) | output.losses
    real, fake = networks(audio), networks(output.recon)
    loss = objective(terms, objective.weights_at(START)).mean()
    loss = loss + settings.weight * adversarial_loss(settings.loss, real.scores, fake.scores).mean()
    loss = loss + settings.feature_weight * feature_distance(real.detached().features, fake.features).mean()
    mine = {name: value for name, value in learner.model.named_parameters() if value.requires_grad}
    of_model = dict(zip(mine, torch.autograd.grad(loss, [*mine.values()], allow_unused=True), strict=True))
    judged = networks(output.recon.detach())
    theirs = dict(networks.named_parameters())
    loss = discriminator_loss(settings.loss, networks(audio).scores, judged.scores).mean()
    return of_model, dict(zip(theirs, torch.autograd.grad(loss, [*theirs.values()]), strict=True))


@pytest.mark.parametrize(
    ("family", "loss", "microbatch"), [("vae", "hinge", 0), ("hvae", "least_squares", 2), ("vqvae", "relativistic", 3)]
)
def test_both_gradients_are_those_of_the_formulas(family, loss, microbatch):
    config, learner, engine = phase(family, loss, microbatch=microbatch)
    of_model, of_discriminator = plain_gradients(config, learner)
    frozen = {name: value.clone() for name, value in learner.model.named_parameters() if not value.requires_grad}
    assert frozen
    batch = share_of(whole_batch(START), START, engine)
    train_step(config, engine, learner, make_objective(config, learner.model), batch, Meter())
    snapshot = learner.snapshot()
    assert snapshot.discriminator
    # After one step the first moment is (1 - beta) times the gradient; neither norm reaches its limit.
    for moments, beta, gradients in (
        (snapshot.moments, config.optim.betas[0], of_model),
        (snapshot.discriminator.moments, 0.8, of_discriminator),
    ):
        largest = max(value.abs().max() for value in gradients.values() if value is not None)
        assert largest > 1e-4
        for name, value in gradients.items():
            if value is not None:
                found = moments[f"exp_avg.{name}"] / (1 - beta)
                assert torch.allclose(found, value, atol=1e-4 * largest), name
    for name, value in learner.model.named_parameters():
        assert value.requires_grad == (name not in frozen)
        assert name not in frozen or torch.equal(value, frozen[name])


def test_every_second_step_the_discriminator_rests_and_still_judges():
    config, learner, engine = phase("vae", "hinge", every=2)
    objective = make_objective(config, learner.model)
    states = []
    for step in (START, START + 1, START + 2):
        meter = Meter()
        train_step(config, engine, learner, objective, share_of(whole_batch(step), step, engine), meter)
        snapshot = learner.snapshot()
        assert snapshot.discriminator
        states.append({name: value.clone() for name, value in snapshot.discriminator.weights.items()})
        read = meter.read(engine, BATCH)
        assert "loss/features" in read
        assert ("adversarial/discriminator_loss" in read) == (step != START + 1)
        assert snapshot.updates == step
    assert snapshot.discriminator.updates == 2
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[1][name], states[2][name]) for name in states[1])
