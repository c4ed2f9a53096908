"""What every family offers, so that training, evaluation and the commands have no branch on the family."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from audiovae.card import Facts
from audiovae.errors import ModelError
from audiovae.hub import Shareable
from audiovae.layers.noise import Noise
from audiovae.layers.representation import make_representation
from audiovae.results import Output, Partial, Statistics


class Autoencoder(nn.Module, Shareable):
    """Base of the families.

    Attributes:
        family: The name under which commands and saved models know the family.
        full_name: How a text calls the family.
        samples: Chunk length in samples.
        rate: Sample rate in Hz.
        loss_names: Terms that `forward` adds to the reconstruction terms.
        level: How its training recordings were levelled, one of `shards.audio.levels.LEVELS`.
        facts: What is known about its training, when it was loaded from a folder that tells; for the model card.
    """

    family: ClassVar[str]
    full_name: ClassVar[str]
    loss_names: tuple[str, ...]
    facts: Facts | None = None
    level: str = "peak"

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

    @property
    @abstractmethod
    def latent_shapes(self) -> list[tuple[int, int]]:
        """Channels (of codes: codebooks) and frames of a chunk's latents, for each tensor of `to_tensors`."""

    @property
    def code_size(self) -> int:
        """Codes in each codebook when latents are codes, int64; 0 when they are real numbers."""
        return 0

    @property
    def ready(self) -> bool:
        """Whether it can encode: codebooks that have not started yet cannot."""
        return True

    @property
    def bits_per_second(self) -> float:
        """What the codes of a second carry at most; 0 for real latents, whose rate is a matter of precision."""
        values = sum(channels * frames for channels, frames in self.latent_shapes)
        return values * math.log2(self.code_size) / self.seconds if self.code_size else 0.0

    def to_tensors(self, latents: Any) -> list[Tensor]:
        """Latents of `encode` as a list of tensors, one for each of `latent_shapes`."""
        return [latents]

    def from_tensors(self, tensors: Sequence[Tensor]) -> Any:
        """The way back: what `decode` takes."""
        return tensors[0]

    def disagreement(self, audio: Tensor, latents: Any) -> Tensor:
        """How far latents that another program made of `audio` [B, 1, samples] are from `encode`'s: a scalar.

        The largest difference of two values; families with codes say how it is measured there.
        """
        pairs = zip(self.to_tensors(self.encode(audio)), self.to_tensors(latents), strict=True)
        return torch.stack([(own - other).abs().max() for own, other in pairs]).max()

    def represent(self, audio: Tensor) -> Tensor:
        """[B, 1, samples] audio in [-1, 1] -> [B, C, T]; raises ModelError for audio of another shape."""
        _check_shape("audio", audio, (1, self.samples))
        return self.representation.represent(audio)

    def check_target(self, target: Tensor) -> None:
        """Raises ModelError when it is not a representation [B, C, T]."""
        _check_shape("representation", target, (self.representation.channels, self.representation.frames))

    def check_latents(self, latents: Any) -> None:
        """Raises ModelError when these are not what `decode` takes."""
        tensors = self.to_tensors(latents) if isinstance(latents, Tensor | Sequence) else [latents]
        if len(tensors) != len(self.latent_shapes):
            raise ModelError(f"latents of {len(tensors)} levels: give a list of {len(self.latent_shapes)}")
        for level, shape in zip(tensors, self.latent_shapes, strict=True):
            _check_shape("latents", level, shape, whole=bool(self.code_size))

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
    def encode(self, audio: Tensor) -> Tensor | list[Tensor]:
        """[B, 1, samples] audio -> the family's latents, without noise: of an HVAE a list, finest level first."""

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


def _check_shape(what: str, given: Any, shape: tuple[int, int], whole: bool = False) -> None:
    """Raises ModelError when it is not a tensor [B, *shape] of floats, or of integers; of codes fewer rows will do."""
    if isinstance(given, Tensor) and given.ndim == 3 and given.is_floating_point() != whole:
        rows, columns = given.shape[1:]
        if columns == shape[1] and (1 <= rows <= shape[0] if whole else rows == shape[0]):
            return
    found = f"of shape {list(given.shape)}, {given.dtype}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
    kind = "codes, int64" if whole else "floats"
    raise ModelError(f"{what} {found}: give [B, {shape[0]}, {shape[1]}] {kind}")
