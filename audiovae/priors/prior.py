"""The interface of every prior."""

from typing import Any, ClassVar

from torch import Tensor

from audiovae.layers.noise import Noise
from audiovae.priors.latents import LatentsConfig
from audiovae.trainable import Trainable


class Prior(Trainable):
    """A model of the latents of recordings, as sequences of frames.

    Attributes:
        has_random_loss: Whether the loss of a sequence depends on random numbers, also in evaluation mode.
    """

    family = "prior"
    loss_names: tuple[str, ...] = ("prior",)
    has_random_loss: ClassVar[bool]

    def __init__(self, config: Any, samples: int, rate: int) -> None:
        super().__init__(config, samples, rate)
        if samples != self.latents.numbers:
            raise ValueError(f"records of {samples:,} numbers do not hold frames of {self.latents.rows}")

    @property
    def latents(self) -> LatentsConfig:
        """The latents that the prior models."""
        return self.config.latents

    def outline(self) -> dict[str, Any]:
        """What the model card needs to know; see `Trainable.outline`."""
        return super().outline() | {"card": "prior-card.md", "latents": self.latents}

    def in_other_units(self, loss: float) -> dict[str, float]:
        """The mean loss in units that say more, by name; empty where there are none."""
        return {}

    def sample(
        self,
        noise: Noise,
        frames: int,
        temperature: float = 1.0,
        given: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Draws sequences of frames.

        Args:
            noise: The random numbers; it decides on the number of items B.
            frames: Number of frames, at most those of a record.
            temperature: Factor on the deviation of the random numbers, or on the entropy of codes, above 0.
            given: Sequences [B, rows, frames] of which a part is kept; None for free ones.
            known: bool [B, frames], the frames that are kept.

        Returns:
            [B, rows, frames]: float32 in the units of the autoencoder, or codes int64.
        """
        raise NotImplementedError
