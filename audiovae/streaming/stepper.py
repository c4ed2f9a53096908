"""A causal model on whole frames, with what it keeps from one call to the next as an explicit list of tensors.

The convolutions of a causal model look back a bounded number of frames. So its state is the last frames that each layer
has seen, and any number of frames can pass at once or one after the other.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.layers.convolutions import Memory, remember
from audiovae.models.autoencoder import Autoencoder
from audiovae.models.lengths import length_step, stretched

# Samples that pass at once at most, unless a frame is longer; it bounds the memory.
LARGEST = 1 << 15


class NotCausalError(ModelError):
    """A model whose layers see the future cannot stream."""


class Stepper:
    """Encodes and decodes whole frames with the weights of a model, which stays as it is.

    Attributes:
        model: The model.
        frame: Samples of a frame: of the coarsest latents, with all that they hold.
        latent_shapes: Channels (or codebooks) and latent frames in a frame, one pair for each level.
    """

    def __init__(self, model: Autoencoder) -> None:
        """Raises NotCausalError if the model is not causal, and ModelError if its codebooks have not started."""
        if not model.config.trunk.causal:
            raise NotCausalError(
                "the model is not causal: its layers see the future; train one with model.trunk.causal true, "
                "such as the preset vae_causal_tiny"
            )
        if not model.ready:
            raise ModelError("the model was saved before its codebooks started and has no codes yet; train it further")
        self.model = model
        self.frame = length_step(model.config)
        self._memory = Memory()
        self._copies: dict[int, Autoencoder] = {}
        self._most = 1 << (max(1, LARGEST // self.frame).bit_length() - 1)
        self.latent_shapes = self._copy(1).latent_shapes

    def encode(self, audio: Tensor, states: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Encodes whole frames.

        Args:
            audio: [B, A, n * frame], n at least 1.
            states: What the last call returned; empty at the start.

        Returns:
            The tensors of the latents, [B, C, n * frames] for each level, and the states for the next call.
        """
        found = []
        for part in audio.split(self._parts(audio.shape[2] // self.frame, self.frame), 2):
            copy = self._ready(part.shape[2] // self.frame, states)
            found.append(copy.to_tensors(copy.encode(part)))
            states = self._memory.states
        return [torch.cat(level, 2) if len(level) > 1 else level[0] for level in zip(*found, strict=True)], [*states]

    def decode(self, latents: Sequence[Tensor], states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The inverse of `encode`: tensors of latents of n frames -> [B, A, n * frame], and the states."""
        count = latents[0].shape[2] // self.latent_shapes[0][1]
        levels = [
            level.split(self._parts(count, frames), 2)
            for level, (_, frames) in zip(latents, self.latent_shapes, strict=True)
        ]
        found = []
        for part in zip(*levels, strict=True):
            copy = self._ready(part[0].shape[2] // self.latent_shapes[0][1], states)
            found.append(copy.decode(copy.from_tensors([level.contiguous() for level in part])))
            states = self._memory.states
        return torch.cat(found, 2) if len(found) > 1 else found[0], [*states]

    def _parts(self, count: int, size: int) -> list[int]:
        """`count` frames as parts that are powers of two, in units of `size`: few lengths serve all."""
        parts, power = [], self._most
        while count:
            while power > count:
                power //= 2
            parts.append(power * size)
            count -= power
        return parts

    def _ready(self, frames: int, states: Sequence[Tensor]) -> Autoencoder:
        """The model for this many frames, whose layers continue from the states."""
        self._memory.resume(states)
        return self._copy(frames)

    def _copy(self, frames: int) -> Autoencoder:
        if frames not in self._copies:
            self._copies[frames] = with_memory(self.model, frames * self.frame, self._memory)
        return self._copies[frames]


def with_memory(model: Autoencoder, samples: int, memory: Memory) -> Autoencoder:
    """A causal model for blocks of so many samples, with the same weights, whose layers keep what came before there."""
    copy = stretched(model, samples)
    assert copy is not None, "the weights of a causal model fit every length"
    remember(copy, memory)
    return copy.eval()
