"""Labels in a prior: their embedding, and guidance of draws by them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiovae.errors import ModelError
from audiovae.layers.noise import FINE, Noise, fractions
from shards.text import printable

HIGHEST_GUIDANCE = 20.0
# Labels that a message lists.
LISTED = 50


class LabelEmbedding(nn.Module):
    """A vector for each label and one for none, all zero at the start: numbers of labels [B] -> [B, width]."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(labels + 1, width))
        # Adam moves each weight equally far. Where earlier frames say nearly all, only the loss of the first ones
        # depends on the label: without this factor, a prior learns recordings by heart before it learns labels.
        self.factor = math.sqrt(width)

    def forward(self, labels: Tensor) -> Tensor:
        """[B] int64, 0 for none -> [B, width]."""
        return self.factor * nn.functional.embedding(labels, self.weight)


@dataclass(frozen=True)
class Condition:
    """Which labels drawn sequences have.

    Attributes:
        labels: [B] int64, the number of each sequence's label among those of the prior from 1 on, or 0 for none.
        guidance: How far to go from the prior without a label towards the one with it; 1 is the one with it.
    """

    labels: Tensor
    guidance: float = 1.0

    def part(self, first: int, count: int) -> "Condition":
        """The condition of `count` sequences from the number `first` on."""
        return Condition(self.labels[first : first + count], self.guidance)


class Guide:
    """Runs a network with labels, and without them in the same batch where the guidance needs both.

    Classifier-free guidance (Ho and Salimans 2022): none + guidance (label - none).
    """

    def __init__(self, condition: Condition | None, items: int, has_labels: bool, device: torch.device) -> None:
        """For `items` sequences. Without a condition, those of a prior that has labels get none.

        Raises:
            ModelError: if the condition is one of another number of sequences, or the prior has no labels.
        """
        self._factor: float | None = None
        self.labels: Tensor | None = None
        if condition is not None:
            if not has_labels or len(condition.labels) != items:
                there = "has labels" if has_labels else "has no labels"
                raise ModelError(f"{len(condition.labels)} labels for {items} sequences of a prior that {there}")
            self.labels = condition.labels.to(device)
            if condition.guidance != 1:
                self._factor = condition.guidance
                self.labels = torch.cat([self.labels, torch.zeros_like(self.labels)])
        elif has_labels:
            self.labels = torch.zeros(items, dtype=torch.int64, device=device)

    def __call__(self, network: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """`network(*inputs, labels)` with guidance; inputs and result have a row for each sequence."""
        if self._factor is None:
            return network(*inputs, self.labels)
        label, none = network(*(torch.cat([one, one]) for one in inputs), self.labels).chunk(2)
        return none + self._factor * (label - none)


def left_out(labels: Tensor, noise: Noise, share: float) -> Tensor:
    """Labels [B] for training: a share of them is 0, none."""
    return labels.masked_fill(fractions(noise, 1).squeeze(1) < round(share * FINE), 0)


def make_condition(
    names: Sequence[str], label: str | Sequence[str | None] | None, items: int, guidance: float = 1.0
) -> Condition | None:
    """The condition of draws by the names of labels; None without any.

    Args:
        names: The labels of the prior.
        label: One for all sequences, or one for each, where None is no label.
        items: The number of sequences.
        guidance: See `Condition`, 0 to 20.

    Raises:
        ModelError: if the prior has no such label, or the guidance is out of range or has no label.
    """
    if not 0 <= guidance <= HIGHEST_GUIDANCE:  # NaN is in no range
        raise ModelError(f"guidance is {guidance}: choose 0 to {HIGHEST_GUIDANCE:g}; 1 is without guidance")
    chosen = [label] * items if label is None or isinstance(label, str) else [*label]
    if len(chosen) != items:
        raise ModelError(f"{len(chosen)} labels for {items} recordings: give one for all, or one for each")
    if not (wanted := [one for one in chosen if one is not None]):
        if guidance != 1:
            raise ModelError(f"guidance is {guidance}: it leads towards a label; name one")
        return None
    if not names:
        raise ModelError(
            f"label {wanted[0]!r}: this prior has learned no labels; encode the recordings again with `python -m train "
            "encode --labels` and train a prior on them"
        )
    numbers = {name: number for number, name in enumerate(names, start=1)}
    for one in wanted:
        if one not in numbers:
            there = ", ".join(printable(name) for name in names[:LISTED]) + (", ..." if len(names) > LISTED else "")
            raise ModelError(f"label {one!r} is unknown: this prior has {there}")
    return Condition(torch.tensor([0 if one is None else numbers[one] for one in chosen]), guidance)
