"""Settings of the adversarial phase."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass
class AdversarialConfig:
    """A second phase of training, in which the decoder also learns to deceive a discriminator.

    Attributes:
        start: Step at which the phase begins; a value below 1 is a share of all steps. 0 means never.
        windows: Windows in samples of the discriminator's networks on complex spectra (Defossez et al. 2022,
            "EnCodec"); the hop is a quarter.
        periods: Periods in samples of its networks on folded waveforms (Kong et al. 2020, "HiFi-GAN"), such as
            [2, 3, 5, 7, 11]. They are large: for GPUs.
        filters: Channels of the networks' first layer: 8 for CPUs, 32 for GPUs.
        loss: `hinge`, `least_squares` or `relativistic`, see `train/adversarial/losses.py`.
        weight: Weight of the adversarial loss, after its ramp.
        feature_weight: Weight of the distance between the discriminator's features of reconstruction and recording.
        lead: First steps of the phase, in which the discriminator learns and the model's losses are those of before.
        ramp: Steps after the lead over which `weight` rises from 0.
        rate: The discriminator's learning rate.
        every: Steps of the model for each step of the discriminator.
        freeze: Train only what turns latents into sound. Encoder, prior and codebooks stay as they are, and so do
            codes and latents of recordings.
    """

    start: NonNegativeFloat = 0.0
    windows: list[int] = field(default_factory=lambda: [2048, 512, 128])
    periods: list[int] = field(default_factory=list)
    filters: PositiveInt = 32
    loss: Literal["hinge", "least_squares", "relativistic"] = "hinge"
    weight: NonNegativeFloat = 0.02
    feature_weight: NonNegativeFloat = 0.1
    lead: NonNegativeInt = 100
    ramp: NonNegativeInt = 500
    rate: PositiveFloat = 3e-4
    every: PositiveInt = 1
    freeze: bool = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.start) or (self.start >= 1 and self.start != int(self.start)):
            raise ValueError(f"adversarial.start is {self.start}: a whole number of steps, or a share of them below 1")
        for name in ("weight", "feature_weight", "rate"):
            if not math.isfinite(value := getattr(self, name)):
                raise ValueError(f"adversarial.{name} is {value}: it must be finite")
        if not self.windows and not self.periods:
            raise ValueError("adversarial.windows and adversarial.periods are empty: the discriminator needs some")
        for name, values in (("windows", self.windows), ("periods", self.periods)):
            if len({*values}) < len(values):
                raise ValueError(f"adversarial.{name} names one value twice: {', '.join(map(str, values))}")
        if any(window % 4 or window < 16 for window in self.windows):
            raise ValueError("adversarial.windows are multiples of 4 of at least 16 samples")
        if any(period < 2 for period in self.periods):
            raise ValueError("adversarial.periods are at least 2 samples")
        if not (self.weight or self.feature_weight):
            raise ValueError("adversarial.weight and adversarial.feature_weight are 0: the phase would have no effect")

    @property
    def shape(self) -> dict[str, Any]:
        """The settings on which the shapes of the discriminator's weights depend."""
        return {"windows": list(self.windows), "periods": list(self.periods), "filters": self.filters}

    def start_step(self, steps: int) -> int | None:
        """The step at which the phase begins in a run of `steps` steps; None for never."""
        if not self.start:
            return None
        return int(self.start) if self.start >= 1 else max(1, round(self.start * steps))

    def weights_at(self, done: int) -> dict[str, float]:
        """The weights of the model's terms after `done` steps of the phase; none while the discriminator leads."""
        if done < self.lead:
            return {}
        share = min(1.0, (done - self.lead) / self.ramp) if self.ramp else 1.0
        return {"adversarial": self.weight * share, "features": self.feature_weight}
