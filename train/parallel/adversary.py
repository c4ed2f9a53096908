"""The second player of the adversarial phase: the discriminator, its optimizer, and what it asks of the model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from audiovae.models.parts import is_within
from audiovae.trainable import Trainable
from train.adversarial.discriminator import Discriminator, Judgement, check_length, make_discriminator
from train.adversarial.losses import adversarial_loss, discriminator_loss, feature_distance, mean_score
from train.adversarial.settings import AdversarialConfig
from train.config import OptimConfig, RunConfig
from train.errors import TrainError
from train.optim.snapshot import Snapshot
from train.parallel.ddp import DDP
from train.parallel.engine import Engine
from train.parallel.strategy import Keep

# Of the discriminator's AdamW, as in Kumar et al. 2023 ("DAC"), appendix: gradients are clipped at a norm of 10.
BETAS, CLIP = (0.8, 0.99), 10.0
# Added to the run's seed for the discriminator's first weights.
SEED = 7919


@dataclass
class Opposition:
    """What the discriminator adds to the loss of a micro-batch.

    Attributes:
        loss: The weighted sum of the terms [B]; 0 where there are none.
        terms: Unweighted loss terms by name, [B] each.
        metrics: Detached scalars for the log.
    """

    loss: Tensor | float = 0.0
    terms: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)


BEGUN = (
    "the checkpoint is of an adversarial phase, which has not begun with these settings: pass the --adversarial.start "
    "that the run had, as a number of steps if it was a share and optim.steps is another now"
)


class NoAdversary:
    """Stands for the discriminator before the phase, and in runs without one.

    Attributes:
        discriminator: The networks; None without the phase.
    """

    discriminator: Discriminator | None = None

    def __init__(self, engine: Engine) -> None:
        self._never = torch.zeros((), dtype=torch.bool, device=engine.device)

    def oppose(self, recon: Tensor, target: Tensor, step: int, share: float, last: bool) -> Opposition:
        """Judges a micro-batch, and adds the gradient of the discriminator's own loss to its weights.

        Args:
            recon: Reconstructions [B, A, T], with their gradient.
            target: The recordings [B, A, T].
            step: Optimizer steps done.
            share: The micro-batch's share of the global batch.
            last: Whether it is this process's last micro-batch of the step.
        """
        return Opposition()

    def clip(self) -> Tensor:
        """Clips the discriminator's gradient; returns whether it refuses the step of both players: bool scalar."""
        return self._never

    def update(self, skip: Tensor) -> None:
        """Updates the discriminator with its clipped gradient unless `skip`, a bool scalar."""

    def values(self, step: int) -> dict[str, float]:
        """Weights of the terms after `step` steps, by their names in the log."""
        return {}

    def gather(self, keep: Keep) -> Snapshot | None:
        """The discriminator's state, each tensor as `keep` returned it; None without one."""
        return None

    def restore(self, snapshot: Snapshot | None, norms: list[float], step: int) -> None:
        """Restores a state of `gather` after `step` steps, and that of the gradient guard.

        Raises:
            TrainError: if it does not fit the settings.
        """
        if snapshot is not None:
            raise TrainError(BEGUN)

    @property
    def norms(self) -> list[float]:
        """State of the gradient guard."""
        return []


class Adversary(NoAdversary):
    """The discriminator of the adversarial phase.

    It is replicated on all processes, whatever holds the model: it is small. In each step it judges with the weights
    of the step before: first its own loss on the micro-batch, then the model's. So a step has one pass of the model,
    and its result does not depend on how the batch is split.
    """

    def __init__(
        self, config: RunConfig, engine: Engine, model: Trainable, first: Mapping[str, Tensor] | None = None
    ) -> None:
        """Makes a discriminator for the chunks of a model, random or with the weights `first`.

        `check_phase` says before whether chunks of this length can have it.
        """
        super().__init__(engine)
        self.config: AdversarialConfig = config.adversarial
        self._start, self._engine = config.phase_start or 0, engine
        seed = config.seed + SEED
        self.discriminator = make_discriminator(self.config, model.samples, seed, model.audio_channels)
        if first is not None:
            _check(first, self.discriminator)
            self.discriminator.load_state_dict(first)
        optim = OptimConfig(lr=self.config.rate, betas=BETAS, weight_decay=0.0, clip=CLIP, explode=config.optim.explode)
        self._player = DDP(self.discriminator.to(engine.device), engine, optim, averages=False)
        self._learned = False
        self.norm: Tensor | None = None  # of the newest step of the discriminator in this attempt

    def oppose(self, recon: Tensor, target: Tensor, step: int, share: float, last: bool) -> Opposition:
        """See `NoAdversary`."""
        done = step - self._start
        self._learned = done % self.config.every == 0
        found = Opposition()
        real = self._learn(recon.detach(), target, share, last, found) if self._learned else None
        weights = self.config.weights_at(done)
        if not weights:
            return found
        networks = self._player.model
        with without_gradients(networks):
            if real is None:
                with torch.no_grad():
                    real = networks(target)
            fake: Judgement = networks(recon)
        found.terms = {
            "adversarial": adversarial_loss(self.config.loss, real.scores, fake.scores),
            "features": feature_distance(real.features, fake.features),
        }
        found.loss = torch.stack([weights[name] * term for name, term in found.terms.items()]).sum(0)
        return found

    def _learn(self, fake: Tensor, target: Tensor, share: float, last: bool, found: Opposition) -> Judgement:
        """Adds the gradient of the discriminator's loss; returns its judgement of the recordings."""
        with self._player.accumulating(last):
            # One pass for both: a second one before the gradient would confuse DistributedDataParallel.
            real, judged = self._player.wrapped(torch.cat([target.float(), fake.float()])).halves()
            loss = discriminator_loss(self.config.loss, real.scores, judged.scores).mean()
            # DistributedDataParallel divides by the number of processes; this undoes it.
            self._player.backward(loss * share * self._engine.world)
        found.metrics = {
            "discriminator_loss": loss,
            "real_score": mean_score(real.scores).mean(),
            "fake_score": mean_score(judged.scores).mean(),
        }
        return real.detached()

    def clip(self) -> Tensor:
        """See `NoAdversary`."""
        if not self._learned:
            return self._never
        self.norm, rejected = self._player.clip()
        return rejected

    def update(self, skip: Tensor) -> None:
        """See `NoAdversary`."""
        if self._learned:
            self._player.update(self.config.rate, skip)

    def values(self, step: int) -> dict[str, float]:
        """See `NoAdversary`."""
        weights = self.config.weights_at(step - self._start)
        named = {f"weight/{name}": value for name, value in weights.items()}
        return named if self.norm is None else {**named, "adversarial/gradient_norm": self.norm.item()}

    def gather(self, keep: Keep) -> Snapshot:
        """See `NoAdversary`."""
        snapshot = self._player.gather(lambda name, value: keep(f"discriminator/{name}", value))
        snapshot.state = self.config.shape
        return snapshot

    def restore(self, snapshot: Snapshot | None, norms: list[float], step: int) -> None:
        """See `NoAdversary`; without a state the discriminator stays as it is, as at the start of the phase."""
        if snapshot is None:
            if step > self._start:  # it would miss its lead, and the weights their ramp
                raise TrainError(
                    f"the adversarial phase cannot begin at step {self._start:,}, as the run is at step {step:,}: pass "
                    f"--adversarial.start {step}, or a later step"
                )
            return
        if snapshot.updates and step <= self._start:
            raise TrainError(BEGUN)
        _check(snapshot.weights, self._player.model)
        self._player.restore(snapshot)
        if norms:
            self._player.gradient_guard.state = torch.tensor(norms, device=self._engine.device)

    @property
    def norms(self) -> list[float]:
        """See `NoAdversary`."""
        guard = self._player.gradient_guard
        return guard.state.tolist() if guard.factor else []


def _check(weights: Mapping[str, Tensor], networks: nn.Module) -> None:
    """Raises TrainError if weights do not fit."""
    own = networks.state_dict()
    if own.keys() != {*weights} or any(own[name].shape != weights[name].shape for name in own):
        raise TrainError(
            "the run's discriminator has other networks: pass the --adversarial.windows, --adversarial.periods and "
            "--adversarial.filters that it had"
        )


def check_phase(config: RunConfig, model: Trainable) -> None:
    """Raises TrainError if a model, with `optim.freeze` in effect, cannot have the adversarial phase."""
    try:
        check_length(config.adversarial, model.samples)
    except ValueError as error:
        raise TrainError(str(error)) from None
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if config.adversarial.freeze and not any(is_within(name, part) for name in trained for part in model.synthesis):
        raise TrainError("optim.freeze and adversarial.freeze leave nothing to train: pass --adversarial.freeze false")


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """Inside the block, passes through the module give its weights no gradients; inputs still get theirs."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in module.parameters():
            parameter.requires_grad_(True)
