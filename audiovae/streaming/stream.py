"""Streams: a causal model on audio that comes in blocks of any size."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.models.autoencoder import Autoencoder
from audiovae.results import Latents
from audiovae.streaming.stepper import Stepper


@dataclass
class StreamState:
    """All that a stream knows of the past. Its size does not grow. No call changes the tensors of a state.

    Attributes:
        items: Recordings that stream side by side, B; 0 before the first block.
        encoder, decoder: What the layers keep, one tensor [B, ...] for each use of a layer.
        samples: [B, A, n] audio of a frame that is not whole yet.
        latents: Latents of a frame that is not whole yet, [B, C, n] for each level.
        output: [B, A, n] audio of `process_block` that has not been returned.
    """

    items: int = 0
    encoder: list[Tensor] = field(default_factory=list)
    decoder: list[Tensor] = field(default_factory=list)
    samples: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 0))
    latents: list[Tensor] = field(default_factory=list)
    output: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 0))

    def copy(self) -> "StreamState":
        """The same tensors in lists of its own."""
        return replace(self, encoder=[*self.encoder], decoder=[*self.decoder], latents=[*self.latents])


class Stream:
    """Encodes, decodes or reconstructs audio in blocks of any size, which may change from call to call.

    All blocks together give what the model makes of the whole audio in one pass, but for rounding in float32.

        stream = audiovae.stream(model)
        while ...:
            output = stream.process_block(samples)   # [n] or [B, A, n] -> the same shape, `latency` samples later

    One stream belongs to one thread. Several streams may share a model.

    Attributes:
        model: The model.
        gain: Factor on the audio before the encoder; the decoder's output is divided by it. Models expect the level of
            their training, see `model.level`, which is not known while a recording comes in.
        frame: Samples of a frame. Latents come in whole frames.
    """

    def __init__(self, model: Autoencoder, gain: float = 1.0) -> None:
        """Raises ModelError if the model is not causal, its codebooks have not started, or the gain is not above 0."""
        if not 0 < gain < float("inf"):
            raise ModelError(f"gain is {gain}: choose a finite number above 0")
        self._stepper = Stepper(model)
        self.model, self.gain = model, float(gain)
        self.frame = self._stepper.frame
        self._state = StreamState()

    @property
    def latency(self) -> int:
        """Samples by which the output of `process_block` is later than its input: a frame but one sample."""
        return self.frame - 1

    @property
    def latency_seconds(self) -> float:
        """`latency` in seconds."""
        return self.latency / self.model.rate

    @property
    def state(self) -> StreamState:
        """The state; assigning an earlier one continues from there."""
        return self._state.copy()

    @state.setter
    def state(self, state: StreamState) -> None:
        self._state = state.copy()

    def reset(self) -> None:
        """Forgets the past: the next block is the first one."""
        self._state = StreamState()

    @torch.no_grad()
    def encode_block(self, samples: Tensor | np.ndarray) -> Latents:
        """Encodes a block.

        Args:
            samples: [n] (of stereo [2, n]) or [B, A, n] floats in [-1, 1] at the model's rate, n at least 0.

        Returns:
            Latents as of `model.encode`, of the frames that are whole now, possibly none. The B of the first block
            holds until `reset`.

        Raises:
            ModelError: if the samples have another shape or type or are not finite; the state stays as it was.
        """
        return self.model.from_tensors(self._encode(self._audio(samples)))

    @torch.no_grad()
    def decode_block(self, latents: Latents) -> Tensor:
        """Decodes latents of any number of frames: [B, A, n] audio of the frames that are whole now, possibly n = 0.

        Raises:
            ModelError: if the latents have another shape or type; the state stays as it was.
        """
        tensors = self.model.to_tensors(latents) if isinstance(latents, Tensor | Sequence) else []
        self._check(tensors)
        self._begin(len(tensors[0]))
        return self._decode(tensors)

    @torch.no_grad()
    def process_block(self, samples: Tensor | np.ndarray) -> Tensor:
        """Reconstructs a block: [n], of stereo [2, n], or [B, A, n] -> the same shape, `latency` samples later.

        The first `latency` samples of a stream are zero. Do not mix it with the other two methods without `reset`.

        Raises:
            ModelError: as `encode_block`.
        """
        audio = self._audio(samples)
        ready = self._decode(self._encode(audio))
        before = self._state.output
        if not len(before):
            before = ready.new_zeros(*audio.shape[:2], self.latency)
        waiting = torch.cat([before, ready], 2)
        count = audio.shape[2]
        self._state.output = waiting[..., count:].clone()
        return waiting[..., :count] if np.ndim(samples) == 3 else waiting[0, :, :count].reshape(np.shape(samples))

    def finish(self) -> Tensor:
        """The last `latency` samples of `process_block`, [B, A, latency], as if silence followed; then resets."""
        rest = self.process_block(torch.zeros(max(1, self._state.items), self.model.audio_channels, self.latency))
        self.reset()
        return rest

    def _encode(self, audio: Tensor) -> list[Tensor]:
        """[B, A, n] -> tensors of the latents of whole frames."""
        joined = (
            torch.cat([self._state.samples, audio * self.gain], 2)
            if self._state.samples.shape[2]
            else (audio * self.gain)
        )
        whole = joined.shape[2] // self.frame * self.frame
        self._state.samples = joined[..., whole:].clone()
        if not whole:
            kind = torch.int64 if self.model.code_size else torch.float32
            shapes = self._stepper.latent_shapes
            return [torch.zeros(len(audio), channels, 0, dtype=kind, device=audio.device) for channels, _ in shapes]
        found, self._state.encoder = self._stepper.encode(joined[..., :whole], self._state.encoder)
        return found

    def _decode(self, latents: Sequence[Tensor]) -> Tensor:
        """Tensors of latents -> [B, A, n] of whole frames."""
        waiting = self._state.latents or [level[..., :0] for level in latents]
        joined = [torch.cat(pair, 2) for pair in zip(waiting, latents, strict=True)]
        sizes = [frames for _, frames in self._stepper.latent_shapes]
        whole = min(level.shape[2] // size for level, size in zip(joined, sizes, strict=True))
        cuts = [whole * size for size in sizes]
        self._state.latents = [level[..., cut:].clone() for level, cut in zip(joined, cuts, strict=True)]
        if not whole:
            return torch.zeros(len(joined[0]), self.model.audio_channels, 0, device=joined[0].device)
        ready = [level[..., :cut] for level, cut in zip(joined, cuts, strict=True)]
        audio, self._state.decoder = self._stepper.decode(ready, self._state.decoder)
        return audio / self.gain

    def _audio(self, samples: Tensor | np.ndarray) -> Tensor:
        """A block as [B, A, n] float32 on the device of the model; raises ModelError."""
        if isinstance(samples, np.ndarray) and samples.dtype.kind == "f":
            samples = torch.from_numpy(np.ascontiguousarray(samples))
        if not isinstance(samples, Tensor) or not samples.is_floating_point():
            raise ModelError(f"samples are a {type(samples).__name__}: expected floats, a tensor or an array")
        shape, channels = list(samples.shape), self.model.audio_channels
        whole = samples.ndim == 3 and shape[0] and shape[1] == channels
        if not (whole or (shape and shape[:-1] == ([] if channels == 1 else [channels]))):
            one = "[n]" if channels == 1 else f"[{channels}, n]"
            raise ModelError(f"samples of shape {shape}: expected {one} or [B, {channels}, n]")
        if not samples.isfinite().all():
            raise ModelError("the samples are not finite (NaN or infinity)")
        self._begin(shape[0] if whole else 1)
        return samples.reshape(self._state.items, channels, shape[-1]).to(self.model.device, torch.float32)

    def _begin(self, items: int) -> None:
        """Notes B at the first block; raises ModelError if a later block has another."""
        if self._state.items not in (0, items):
            raise ModelError(f"a block of {items} items in a stream of {self._state.items}: call reset() first")
        self._state.items = items

    def _check(self, tensors: Sequence[Tensor]) -> None:
        """Raises ModelError unless these are tensors of latents, of any number of frames."""
        shapes, kind = self._stepper.latent_shapes, "codes, int64" if self.model.code_size else "floats"
        wanted = " and ".join(f"[B, {channels}, n]" for channels, _ in shapes)
        fits = len(tensors) == len(shapes) and all(
            isinstance(level, Tensor)
            and level.ndim == 3
            and level.shape[:2] == (len(tensors[0]), channels)
            and level.is_floating_point() != bool(self.model.code_size)
            for level, (channels, _) in zip(tensors, shapes, strict=True)
        )
        if not fits or not len(tensors[0]):
            raise ModelError(f"latents do not fit: expected {wanted} {kind}, as from encode_block")


def stream(model: Autoencoder, gain: float = 1.0) -> Stream:
    """A stream through a causal model (`model.trunk.causal`); see `Stream`.

    Raises:
        ModelError: if the model is not causal, its codebooks have not started, or the gain is not above 0.
    """
    return Stream(model, gain)
