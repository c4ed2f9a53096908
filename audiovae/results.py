"""What a forward pass returns, for every family alike."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Statistics:
    """What one process adds to a model's running estimates; the caller joins those of all processes.

    Attributes:
        sums: To be added up over processes and micro-batches.
        items: [n, ...] one entry for each item, to be gathered in the order of the global batch.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    items: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Output:
    """A forward pass.

    Attributes:
        recon: [B, C, T] the reconstructed representation.
        losses: Unweighted terms, each [B] so that batches of any size can be averaged exactly.
        metrics: Detached scalars for the log, each a mean over the batch.
        statistics: Contribution to the model's running estimates; empty for most families.
    """

    recon: Tensor
    losses: dict[str, Tensor]
    metrics: dict[str, Tensor]
    statistics: Statistics = field(default_factory=Statistics)


@dataclass
class Partial:
    """A reconstruction for which only some levels of latents knew the input.

    Attributes:
        known: Levels taken from the posterior, 0 the finest; the others were drawn from the prior.
        audio: [B, 1, samples].
    """

    known: list[int]
    audio: Tensor
