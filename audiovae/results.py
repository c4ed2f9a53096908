"""The result types of every family."""

from dataclasses import dataclass, field

from torch import Tensor

# Latents of `encode`: of a VAE floats [B, C, T], of a VQ-VAE codes [B, codebooks, T] int64, of an HVAE a list of floats
# [B, C, T], the finest level first. `encode` of each family's class has the exact type.
Latents = Tensor | list[Tensor]


@dataclass
class Statistics:
    """The contribution of one process to a model's running estimates; the caller combines those of all processes.

    Attributes:
        sums: Tensors to be added up over processes and micro-batches.
        items: Tensors [n, ...] with one entry per item, to be gathered in the order of the global batch.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    items: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Output:
    """The result of a forward pass.

    Attributes:
        recon: [B, C, T] the reconstructed representation.
        losses: Unweighted loss terms, each [B], so that batches of any size can be averaged exactly.
        metrics: Detached scalars for the log, each a mean over the batch.
        statistics: Contribution to the model's running estimates; empty for most families.
    """

    recon: Tensor
    losses: dict[str, Tensor]
    metrics: dict[str, Tensor]
    statistics: Statistics = field(default_factory=Statistics)


@dataclass
class Partial:
    """A reconstruction in which only some levels of latents depend on the input.

    Attributes:
        known: Levels taken from the posterior, 0 being the finest. The others are sampled from the prior.
        audio: [B, A, samples].
    """

    known: list[int]
    audio: Tensor
