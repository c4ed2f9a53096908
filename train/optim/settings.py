"""Settings of the optimisation."""

import math
from dataclasses import dataclass, field
from typing import Literal

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from train.optim.schedules import learning_rate


@dataclass
class OptimConfig:
    """AdamW with warm-up and decay.

    Attributes:
        steps: Optimizer steps of the whole run.
        lr: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        final_lr: Final learning rate as a share of the peak.
        schedule: Learning rate after the warm-up. `cosine` decays until the last step; `constant` stays at the peak
            and decays linearly at the end.
        decay_share: Share of all steps over which a constant learning rate decays at the end.
        weight_decay: Decoupled weight decay.
        betas: Decay rates of Adam's first and second moments.
        clip: Largest gradient norm; gradients above it are scaled down to it.
        explode: Skip steps whose gradient norm exceeds this many times the typical norm; 0 means never.
        ema: Decay of the averaged weights (EMA), reached after the first steps. Evaluation and export use them.
        skip_limit: The run ends after this many skipped steps in a row. Steps are skipped when values are not
            finite or the gradient explodes.
        freeze: Parts of the model that stay as they are, such as [encoder]; codebooks are a part too.
        part_lr: Parts with a learning rate of their own, as PART:FACTOR, such as [encoder:0.1].
        hold_from: For a run that is made longer: from this number of steps done on, the learning rate stays at its
            final value. Earlier steps have the schedule of a run that ended there. 0 means never.
        cycle_from: As `hold_from`, but a new cycle begins there: a warm-up from the final rate to the peak, then the
            schedule again until the last step.
    """

    steps: PositiveInt = 100_000
    lr: PositiveFloat = 1e-3
    warmup_steps: NonNegativeInt = 200
    final_lr: ClosedUnitInterval = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    decay_share: ClosedUnitInterval = 0.2
    weight_decay: NonNegativeFloat = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    clip: PositiveFloat = 1.0
    explode: NonNegativeFloat = 0.0
    ema: ClosedUnitInterval = 0.999
    skip_limit: PositiveInt = 50
    freeze: list[str] = field(default_factory=list)
    part_lr: list[str] = field(default_factory=list)
    hold_from: NonNegativeInt = 0
    cycle_from: NonNegativeInt = 0

    def __post_init__(self) -> None:
        for part in factors_of(self.part_lr):
            if frozen := [name for name in self.freeze if f"{part}.".startswith(f"{name}.")]:
                raise ValueError(f"optim.part_lr names {part}, which optim.freeze [{frozen[0]}] keeps: leave one out")
        if not math.isfinite(self.lr) or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.lr is {self.lr} and optim.betas {self.betas}: lr must be finite, betas in [0, 1)")
        if 0 < self.explode <= 1 or not math.isfinite(self.explode):
            raise ValueError(f"optim.explode is {self.explode}: it must be above 1, or 0 for never")
        if self.hold_from and self.cycle_from:
            raise ValueError("optim.hold_from and optim.cycle_from exclude each other: set one of them")
        if max(self.hold_from, self.cycle_from) >= self.steps:
            name, start = ("hold_from", self.hold_from) if self.hold_from else ("cycle_from", self.cycle_from)
            raise ValueError(f"optim.{name} is {start} and optim.steps {self.steps}: raise optim.steps")
        if self.hold_from and not self.final_lr:
            raise ValueError("optim.hold_from has no effect with optim.final_lr 0: use optim.cycle_from")

    def rate_at(self, step: int) -> float:
        """The learning rate of the step that follows `step` steps; a pure function of the settings."""
        start = self.hold_from or self.cycle_from
        shape = (self.final_lr, self.schedule, self.decay_share)
        if not start or step < start:
            return learning_rate(step, self.lr, self.warmup_steps, start or self.steps, *shape)
        final = self.lr * self.final_lr
        if self.hold_from:
            return final
        # The warm-up begins at the final rate: a fall below it would be a detour.
        return max(final, learning_rate(step - start, self.lr, self.warmup_steps, self.steps - start, *shape))


def factors_of(part_lr: list[str]) -> dict[str, float]:
    """The factors on the learning rate by part of the model; raises ValueError for what is not PART:FACTOR."""
    factors = {}
    for text in part_lr:
        part, _, factor = text.partition(":")
        try:
            factors[part] = float(factor)
        except ValueError:
            factors[part] = math.nan
        if not part or not 0 < factors[part] < math.inf:
            raise ValueError(f"optim.part_lr: {text!r} is not PART:FACTOR with a factor above 0, such as encoder:0.1")
    if len(factors) < len(part_lr):
        raise ValueError(f"optim.part_lr is {part_lr}: a part is named twice")
    return factors
