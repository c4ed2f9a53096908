"""The interface of every family, so that training, evaluation and the commands need no branch on the family."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.hub import Shareable
from audiovae.inputs import check_temperature
from audiovae.layers.levels import BandLevels, LevelsConfig
from audiovae.layers.noise import Noise
from audiovae.layers.representation import make_representation
from audiovae.layers.whitening import fit_whitening, whitenings
from audiovae.results import Latents, Output, Partial
from audiovae.trainable import Trainable

# Chooses the latents of a level relative to their prior: from the level (0 is the finest), and mean and log variance of
# the posterior relative to the prior, [B, C, T] each, to values [B, C, T]. It works element by element: a model may ask
# more than once for a level, and take some channels of each answer.
Choice = Callable[[int, Tensor, Tensor], Tensor]


class Autoencoder(Trainable, Shareable):
    """Base class of the families of autoencoders; see also the attributes of `Trainable`.

    In shapes, A is `audio_channels`: 1 for mono, 2 for left and right.

    Attributes:
        levels: Measures and fills the levels of the upper bands; None for models without them.
        all_levels: The settings of the levels of all audio channels together.
    """

    synthesis: ClassVar[tuple[str, ...]] = ("decoder",)
    # Of models of mel spectrograms the term `stft` is not computed by an STFT: it is the mean absolute difference of
    # log-mel. Metrics, weights and settings use one name for both, so that one set of settings and one panel serve
    # every model.
    distance_names: ClassVar[tuple[str, ...]] = ("mse", "stft")

    def __init__(self, config: Any, samples: int, rate: int, audio_channels: int = 1) -> None:
        super().__init__(config, samples, rate)
        self.audio_channels = audio_channels
        self.levels: BandLevels | None = None
        self.all_levels: LevelsConfig = config.levels.for_channels(audio_channels)
        self.representation = make_representation(config.representation, samples, rate, audio_channels)

    def unloaded(self) -> Self:
        """See `Trainable.unloaded`."""
        return type(self)(self.config, self.samples, self.rate, self.audio_channels)

    @property
    def seconds(self) -> float:
        """Length of a chunk in seconds."""
        return self.samples / self.rate

    @property
    @abstractmethod
    def latent_shapes(self) -> list[tuple[int, int]]:
        """Channels (or codebooks) and frames of a chunk's latents, for each tensor of `to_tensors`."""

    @property
    def code_size(self) -> int:
        """Codes in each codebook if latents are codes (int64); 0 if they are real numbers."""
        return 0

    @property
    def ready(self) -> bool:
        """Whether the model can encode: False before its codebooks have started."""
        return True

    @property
    def bits_per_second(self) -> float:
        """Upper bound of the bit rate of codes; 0 for real latents, whose rate depends on their precision."""
        values = sum(channels * frames for channels, frames in self.latent_shapes)
        return values * math.log2(self.code_size) / self.seconds if self.code_size else 0.0

    def outline(self) -> dict[str, Any]:
        """What the model card needs to know; see `Trainable.outline`."""
        return super().outline() | {
            "latent_shapes": self.latent_shapes,
            "code_size": self.code_size,
            "bits_per_second": self.bits_per_second,
        }

    def to_tensors(self, latents: Any) -> list[Tensor]:
        """Latents of `encode` as a list of tensors, one for each of `latent_shapes`."""
        return [latents]

    def from_tensors(self, tensors: Sequence[Tensor]) -> Any:
        """The inverse of `to_tensors`: latents as `decode` takes them."""
        return tensors[0]

    def disagreement(self, audio: Tensor, latents: Any) -> Tensor:
        """Distance, a scalar, of another program's latents for `audio` [B, A, samples] from those of `encode`.

        This is the largest difference of two values; families with codes define their own measure.
        """
        pairs = zip(self.to_tensors(self.encode(audio)), self.to_tensors(latents), strict=True)
        return torch.stack([(own - other).abs().max() for own, other in pairs]).max()

    def represent(self, audio: Tensor) -> Tensor:
        """[B, A, samples] audio in [-1, 1] -> [B, C, T]; raises ModelError for audio of another shape."""
        _check_shape("audio", audio, (self.audio_channels, self.samples))
        return self.representation.represent(audio)

    def check_target(self, target: Tensor) -> None:
        """Raises ModelError if a tensor is not a representation [B, C, T]."""
        _check_shape("representation", target, (self.representation.channels, self.representation.frames))

    def check_latents(self, latents: Any) -> None:
        """Raises ModelError if `decode` cannot take these latents."""
        tensors = self.to_tensors(latents) if isinstance(latents, Tensor | Sequence) else [latents]
        if len(tensors) != len(self.latent_shapes) and not isinstance(latents, Tensor | Sequence):
            count = len(self.latent_shapes)
            raise ModelError(f"latents of type {type(latents).__name__}: expected a list of {count} tensors")
        if len(tensors) != len(self.latent_shapes):
            raise ModelError(f"latents of {len(tensors)} levels: expected a list of {len(self.latent_shapes)}")
        for level, shape in zip(tensors, self.latent_shapes, strict=True):
            _check_shape("latents", level, shape, whole=bool(self.code_size))

    def render(self, representation: Tensor) -> Tensor:
        """[B, C, T] -> [B, A, samples] audio."""
        return self.representation.render(representation)

    def distances(self, recon: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Reconstruction losses of two representations [B, C, T], each [B]."""
        return self.representation.distances(recon, target)

    def calibrate(self, audio_batches: Iterable[Tensor]) -> None:
        """Fits the representation, the scale of levels and the whitening to batches [B, A, samples] of training audio.

        Call it before the first step of a new run.
        """
        trunk = self.config.trunk
        if self.levels is None and not trunk.whiten:
            self.representation.calibrate(audio_batches)
            return
        chunks = list(audio_batches)  # the others are of represented audio, so the representation comes first
        self.representation.calibrate(chunks)
        if self.levels is not None:
            self.levels.calibrate(self.represent(audio) for audio in chunks)
        if trunk.whiten:
            fit_whitening(self, (self.represent(audio) for audio in chunks), trunk.strides[0], trunk.causal)

    def calibrated(self) -> list[Tensor]:
        """The buffers that `calibrate` sets."""
        parts = [part for part in (self.representation, self.levels, *whitenings(self)) if part is not None]
        return [buffer for part in parts for buffer in part.buffers()]

    def example_target(self, items: int) -> Tensor:
        """A representation without content: [items, C, T]."""
        return torch.empty(items, self.representation.channels, self.representation.frames)

    @abstractmethod
    def forward(self, target: Tensor, noise: Noise | None = None) -> Output:
        """The forward pass of training, from a representation [B, C, T]."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Latents:
        """[B, A, samples] audio -> the family's latents, without noise; of an HVAE a list, finest level first."""

    # A family takes only its own latents, so the base class can name no narrower type for them than Any.

    def encode_relative(self, audio: Tensor, choose: Choice) -> list[Tensor]:
        """Chosen latents relative to their prior, in units of its deviation: finest level first, [B, C, T] each.

        Latents that levels scale are in units of the posterior's deviation instead.

        The divergence of the posterior from the prior is the ideal cost of such values. Coarser levels are chosen first
        and finer ones know what was chosen. For families with real latents only.

        Args:
            audio: [B, A, samples].
            choose: Gets mean and log variance of each level's posterior, and returns the values to go on with.
        """
        raise NotImplementedError(f"the latents of a {self.family} are codes")

    def decode_relative(self, values: Sequence[Tensor]) -> Tensor:
        """The result of `encode_relative`, finest level first -> [B, A, samples] audio."""
        raise NotImplementedError(f"the latents of a {self.family} are codes")

    @contextmanager
    def decoding_at(self, starts: Sequence[int]) -> Iterator[None]:
        """Says at which sample of a recording each item begins that is decoded meanwhile.

        The noise in the upper bands is a function of the position, so it repeats where positions do: without this, each
        chunk has the same. The places belong to the model, so one thread at a time may decode with it.
        """
        if self.levels is None:
            yield
            return
        before, self.levels.start = self.levels.start, torch.tensor(list(starts))
        try:
            yield
        finally:
            self.levels.start = before

    def code_use(self) -> Tensor:
        """How often training used each code, [codebooks, turns, size] of any scale; [0, 0, 0] for real latents."""
        return torch.zeros(0, 0, 0)

    @abstractmethod
    def decode(self, latents: Any) -> Tensor:
        """Latents -> [B, A, samples] audio."""

    @abstractmethod
    def blend(self, first: Any, second: Any, weight: float) -> Any:
        """Interpolates between two latents of `encode`; `weight` in [0, 1] is the share of the second."""

    @torch.no_grad()
    def sample(self, items: int, temperature: float = 1.0, noise: Noise | None = None) -> Tensor:
        """Samples audio from the prior: [items, A, samples].

        Args:
            items: Number of chunks.
            temperature: Factor on the standard deviation of the prior, 0 to 10; 0 gives its mode.
            noise: The random numbers; None for other ones at each call.

        Raises:
            ModelError: if the temperature is out of range.
        """
        check_temperature(temperature)
        return self._sample(items, temperature, noise)

    @abstractmethod
    def _sample(self, items: int, temperature: float, noise: Noise | None) -> Tensor:
        """`sample`, for a temperature in its range and without gradients."""

    def divergences(self, audio: Tensor, noise: Noise) -> Tensor:
        """KL divergence of the posterior from the prior on each level: [B, A, samples] -> [B, levels] in nats.

        [B, 0] for families whose latents are codes.
        """
        return audio.new_zeros(len(audio), 0)

    def partial_reconstructions(self, audio: Tensor, noise: Noise) -> list[Partial]:
        """Reconstructions of audio [B, A, samples] from some levels of latents only, which show what each contributes.

        Empty for families whose latents have no levels.
        """
        return []

    @torch.no_grad()
    def reconstruct(self, audio: Tensor) -> Tensor:
        """Encodes and decodes [B, A, samples] audio without noise."""
        return self.decode(self.encode(audio))


def _check_shape(what: str, given: Any, shape: tuple[int, int], whole: bool = False) -> None:
    """Raises ModelError unless `given` is a float tensor [B, *shape]; if `whole`, codes of at most that many rows."""
    if isinstance(given, Tensor) and given.ndim == 3 and given.is_floating_point() != whole:
        rows, columns = given.shape[1:]
        if columns == shape[1] and (1 <= rows <= shape[0] if whole else rows == shape[0]):
            return
    kind = "codes, int64" if whole else "floats"
    expected = f"[B, {shape[0]}, {shape[1]}] {kind}"
    if not isinstance(given, Tensor):
        raise ModelError(f"{what} of type {type(given).__name__}, not a tensor: expected {expected}")
    raise ModelError(f"{what} of shape {list(given.shape)}, {given.dtype}: expected {expected}")
