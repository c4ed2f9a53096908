"""What the priors of real latents and of codes share."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.inputs import check_temperature
from audiovae.layers.noise import Noise
from audiovae.priors.conditions import Condition, left_out
from audiovae.priors.latents import LatentsConfig
from audiovae.priors.settings import PriorConfig
from audiovae.trainable import Trainable

# From audio in [-1, 1) to the int16 of a record.
WHOLE = 32768


class Prior(Trainable):
    """A model of sequences of latents [B, rows, frames]. A chunk of its data set is one record of latents.

    If the data have labels, the target of `forward` has one more frame, which holds the number of the label.

    Attributes:
        has_random_loss: Whether the loss of a sequence depends on random numbers in evaluation mode, too.
        ahead: So many frames after a frame have an effect on it. What a window holds later, or its end, does not.
        latents: What the prior models.
    """

    family: ClassVar[str] = "prior"
    loss_names = ("prior",)
    has_random_loss: ClassVar[bool]
    ahead: int

    def __init__(self, config: PriorConfig, samples: int, rate: int) -> None:
        """See `Trainable`.

        Raises:
            ValueError: if records of `samples` values are not what the config describes.
        """
        super().__init__(config, samples, rate)
        self.latents: LatentsConfig = config.latents
        if samples != self.latents.numbers:
            raise ValueError(
                f"samples is {samples}: records of {self.latents.frames} frames of {self.latents.rows} rows have "
                f"{self.latents.numbers}" + (", that of the label included" if self.latents.labels else "")
            )

    def recorded(self, audio: Tensor) -> Tensor:
        """A batch of chunks [B, 1, samples] in [-1, 1) -> the numbers of the latents, float [B, rows, frames]."""
        about = self.latents
        numbers = (audio[:, :, : about.values] * WHOLE).round()
        return numbers.reshape(len(audio), about.frames, about.rows).transpose(1, 2)

    def with_labels(self, target: Tensor, audio: Tensor) -> Tensor:
        """Adds the labels of the records to their latents [B, rows, frames], as another frame, if there are labels."""
        if not self.latents.labels:
            return target
        labels = (audio[:, :, -1:] * WHOLE).round().to(target.dtype)
        return torch.cat([target, labels.expand(-1, target.shape[1], 1)], 2)

    def parted(self, target: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor | None]:
        """The latents [B, rows, frames] of a target, and the numbers of their labels [B], if the data have labels.

        In training, some labels are left out, as `noise` has it.
        """
        if not self.latents.labels:
            return target, None
        labels = target[:, 0, -1].long()
        if self.training and noise is not None:
            labels = left_out(labels, noise, self.config.settings.unlabelled)
        return target[:, :, :-1], labels

    def check_records(self, numbers: Tensor) -> None:
        """Raises ModelError if a record holds what is no label. On a GPU, it would end the process without a reason."""
        if not (names := self.latents.labels):
            return
        least, most = (int(end) for end in numbers[:, -1].aminmax())
        if least < 0 or most > len(names):
            raise ModelError(
                f"the data hold labels from {least} to {most}, and labels are 0 to {len(names)}; encode the recordings "
                "again"
            )

    def outline(self) -> dict[str, Any]:
        """What the model card needs to know, see `Trainable.outline`."""
        return super().outline() | {"card": "prior-card.md", "latents": self.latents}

    def in_other_units(self, loss: float) -> dict[str, float]:
        """A mean loss in units that say more, by name; empty where there are none."""
        return {}

    def sample(
        self,
        noise: Noise,
        frames: int,
        temperature: float = 1.0,
        given: Tensor | None = None,
        known: Tensor | None = None,
        condition: Condition | None = None,
    ) -> Tensor:
        """Draws sequences of at most the context's length: [B, rows, frames].

        Args:
            noise: The random numbers; it has a row for each sequence.
            frames: Frames of each sequence.
            temperature: 0 to 10; at 0 the result is the most likely one, or near it.
            given: [B, rows, n] with n <= frames: latents that stay exactly as they are.
            known: bool [B, n], the frames that are given; None for all n.
            condition: The labels of the sequences, see `make_condition`; None for no labels.

        Raises:
            ModelError: if these do not fit.
        """
        raise NotImplementedError

    def check_sampling(
        self, items: int, frames: int, temperature: float, given: Tensor | None, known: Tensor | None
    ) -> None:
        """Raises ModelError unless `sample` can take these."""
        check_temperature(temperature)
        if not 1 <= frames <= self.latents.frames:
            raise ModelError(
                f"{frames} frames: this prior draws 1 to {self.latents.frames} at once; "
                "audiovae.priors.lengthen.generate draws more"
            )
        if given is None:
            if known is not None:
                raise ModelError("known frames without given latents: give both")
            return
        if given.dim() != 3 or given.shape[:2] != (items, self.latents.rows) or given.shape[2] > frames:
            raise ModelError(
                f"given latents of shape {list(given.shape)}: expected [{items}, {self.latents.rows}, at most {frames}]"
            )
        if known is not None and (known.dtype != torch.bool or known.shape != (items, given.shape[2])):
            raise ModelError(
                f"known frames of shape {list(known.shape)} and type {known.dtype}: expected bool "
                f"[{items}, {given.shape[2]}]"
            )
