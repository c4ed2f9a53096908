"""What every family offers, so that training, evaluation and the commands have no branch on the family."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from audiovae.noise import Noise
from audiovae.representation import make_representation


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


class Autoencoder(nn.Module):
    """Base of the families.

    Attributes:
        family: The name under which commands and saved models know the family.
        samples: Chunk length in samples.
        rate: Sample rate in Hz.
        loss_names: Terms that `forward` adds to the reconstruction terms.
        code_count: Codes of each codebook; 0 for families whose latents are real numbers.
    """

    family: ClassVar[str]
    loss_names: tuple[str, ...]
    code_count: int = 0

    def __init__(self, config: Any, samples: int, rate: int) -> None:
        super().__init__()
        self.config = config
        self.samples = samples
        self.rate = rate
        self.representation = make_representation(config.representation, samples, rate)

    @property
    def seconds(self) -> float:
        """Length of a chunk in seconds."""
        return self.samples / self.rate

    def represent(self, audio: Tensor) -> Tensor:
        """[B, 1, samples] audio in [-1, 1] -> [B, C, T]."""
        return self.representation.represent(audio)

    def render(self, representation: Tensor) -> Tensor:
        """[B, C, T] -> [B, 1, samples] audio."""
        return self.representation.render(representation)

    def distances(self, recon: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Reconstruction terms, each [B], of two representations."""
        return self.representation.distances(recon, target)

    def calibrate(self, audio_batches: Iterable[Tensor]) -> None:
        """Fits the representation to training audio, [B, 1, samples] each, before the first step of a new run."""
        self.representation.calibrate(audio_batches)

    @abstractmethod
    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """One training pass over a representation [B, C, T]."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Any:
        """[B, 1, samples] audio -> the family's latents, without noise."""

    @abstractmethod
    def decode(self, latents: Any) -> Tensor:
        """Latents -> [B, 1, samples] audio."""

    @abstractmethod
    def blend(self, first: Any, second: Any, weight: float) -> Any:
        """Latents between two of `encode`'s, `weight` in [0, 1] being the second one's share; `decode` takes them."""

    @abstractmethod
    def sample(self, items: int, temperature: float = 1.0, noise: Noise | None = None) -> Tensor:
        """Audio [items, 1, samples] drawn from the prior."""

    def update(self, statistics: Statistics, step: int) -> None:
        """Takes in the statistics of the whole global batch after optimizer step `step`.

        What is not finite leaves all estimates as they are: so does a step that was skipped.
        """

    def usage(self) -> dict[str, Tensor]:
        """By codebook the share of each code in recent use, [K]; empty for families without codes."""
        return {}

    def divergences(self, audio: Tensor, noise: Noise) -> Tensor:
        """What each level of latents says about each item beyond its prior: [B, 1, samples] -> [B, levels] nats.

        [B, 0] for families whose latents are codes.
        """
        return audio.new_zeros(len(audio), 0)

    def partial_reconstructions(self, audio: Tensor, noise: Noise) -> list[Partial]:
        """What each level of latents is worth: [B, 1, samples] audio through some levels only.

        Empty for families whose latents have no levels.
        """
        return []

    @torch.no_grad()
    def reconstruct(self, audio: Tensor) -> Tensor:
        """[B, 1, samples] audio -> [B, 1, samples], through the latents and without noise."""
        return self.decode(self.encode(audio))
