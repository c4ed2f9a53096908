"""What training, checkpoints and model folders need of a model, whatever it is a model of."""

from collections.abc import Iterable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from audiovae.facts import Facts
from audiovae.layers.noise import Noise
from audiovae.results import Output, Statistics


class Trainable(nn.Module):
    """Base class of autoencoders and priors; its constructor takes `config`, `samples` and `rate`.

    That of autoencoders takes `audio_channels` too.

    Attributes:
        family: The name of the family in commands and saved models.
        full_name: The name of the family in texts.
        training_only: Names of buffers that only training uses. They are not part of a model's fingerprint.
        synthesis: Parts, by dotted names, that only turn latents into sound: no latent or code depends on them.
        distance_names: Loss terms that `distances` returns.
        loss_names: Loss terms that `forward` returns in addition.
        config: The settings of the model, a dataclass.
        samples: Values in a channel of a chunk of the data set.
        rate: Values a second in a chunk; Hz for audio.
        audio_channels: Channels of a chunk: 1 for mono and for latents, 2 for stereo.
        level: How the levels of its training recordings were normalised, one of `shards.audio.levels.LEVELS`.
        facts: Facts about its training for the model card, if it was loaded from a folder with `facts.json`.
    """

    family: ClassVar[str]
    full_name: ClassVar[str]
    training_only: ClassVar[tuple[str, ...]] = ()
    synthesis: ClassVar[tuple[str, ...]] = ()
    distance_names: ClassVar[tuple[str, ...]] = ()
    loss_names: tuple[str, ...]
    facts: Facts | None = None
    level: str = "peak"
    audio_channels: int = 1

    def __init__(self, config: Any, samples: int, rate: int) -> None:
        super().__init__()
        self.config = config
        self.samples = samples
        self.rate = rate

    def unloaded(self) -> Self:
        """A model of the same settings with freshly initialized weights."""
        return type(self)(self.config, self.samples, self.rate)

    def check_records(self, numbers: Tensor) -> None:
        """Raises ModelError if the model cannot learn from these records, int16 [B, samples] on the CPU."""

    def represent(self, audio: Tensor) -> Tensor:
        """A batch of chunks [B, 1, samples] in [-1, 1] -> what `forward` takes."""
        raise NotImplementedError

    def example_target(self, items: int) -> Tensor:
        """A tensor without meaningful content of the shape and type that `represent` returns for `items` chunks."""
        raise NotImplementedError

    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """The forward pass of training, from the result of `represent`."""
        raise NotImplementedError

    def distances(self, recon: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Loss terms that compare `Output.recon` with the target, each [B]."""
        return {}

    def calibrate(self, audio_batches: Iterable[Tensor]) -> None:
        """Computes statistics of the data from batches [B, 1, samples], before the first step of a new run."""

    def calibrated(self) -> list[Tensor]:
        """The buffers that `calibrate` sets."""
        return []

    def update(self, statistics: Statistics, step: int) -> None:
        """Updates running estimates with the statistics of the whole global batch after optimizer step `step`.

        Statistics that are not finite leave all estimates unchanged, as in a skipped step.
        """

    def usage(self) -> dict[str, Tensor]:
        """The share of each code in recent use, [K] for each codebook by name; empty for families without codes."""
        return {}

    def outline(self) -> dict[str, Any]:
        """What the model card needs to know in addition to `config.json`; `card` names its template."""
        count = sum(parameter.numel() for parameter in self.parameters())
        return {"card": "card.md", "full_name": self.full_name, "parameters": count}

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device
