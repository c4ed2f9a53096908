"""Passes recordings of any length through a model: in one pass where the model allows it, in chunks where not.

One pass means that the convolutions see the recording as a whole. It is computed in blocks that overlap by what the
convolutions reach, so the memory is bounded and no latents are stored twice. It needs a model whose layers all have
more frames in a chunk than their kernels reach. Otherwise some weights met only padding in training and hold no
knowledge: in an HVAE the coarse levels, with one to seven frames a chunk. Such models take chunks, which overlap a
little.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiovae.layers.trunk import TrunkConfig
from audiovae.models.autoencoder import Autoencoder
from audiovae.models.lengths import length_step, stretched
from audiovae.recordings.overlap_add import (
    BATCH,
    check_audio,
    chunk_starts,
    count_chunks,
    fade_of,
    gain_of,
    joined_chunks,
    raised_cosine,
    split_chunks,
)

BLOCK_S = 60
# Seconds over which blocks cross-fade. Models of waveforms have equal samples there; Griffin-Lim has not.
FADE_S = 0.02

# From the first sample and the one after the last to that part of a recording, [n] or [2, n].
Read = Callable[[int, int], Tensor]
# From a model and audio [B, A, samples] to tensors [B, rows, frames], one for each level; and back.
Encode = Callable[[Autoencoder, Tensor], list[Tensor]]
Decode = Callable[[Autoencoder, list[Tensor]], Tensor]


def reach(model: Autoencoder) -> int:
    """Samples on each side beyond which neither encoding nor decoding looks, an upper bound for each of the two."""
    trunk, mel = model.config.trunk, model.config.representation
    sides = 2 if trunk.causal else 1  # causal layers reach as far in all, but to one side
    jumps = [math.prod(trunk.strides[: i + 1]) for i in range(len(trunk.strides))]
    widest = sum(_offsets(trunk))
    # A strided layer reaches at most two of its frames, each of two heads one.
    frames = sum(jump * (2 + widest) for jump in jumps) + 2 * sides * jumps[-1]
    if model.levels is not None:
        # The trunk decides the gain of a whole frame of levels, and interpolation carries it into the next one.
        frames += 3 * sides * jumps[-1] * model.config.levels.hold
        if getattr(model.config, "scale_by_levels", False):
            # Encoder and decoder know the levels through their latents: five layers of three frames at most. The scale
            # of a frame follows from the levels beside it too.
            frames += 6 * sides * jumps[-1] * model.config.levels.hold
    return frames * mel.hop + mel.n_fft if mel.kind == "mel" else frames


def _offsets(trunk: TrunkConfig) -> list[int]:
    """How far the residual blocks of a stage reach, in frames to the side to which they reach farthest."""
    kernel = 2 * trunk.kernel - 1 if trunk.causal else trunk.kernel
    return [3 ** (i % 3) * (kernel - 1) // 2 for i in range(trunk.blocks)]


def takes_one_pass(model: Autoencoder) -> bool:
    """Whether the model can take recordings as a whole, see above."""
    if len(model.latent_shapes) > 1 or model.latent_shapes[0][1] <= max(1, *_offsets(model.config.trunk)):
        return False
    levels = model.config.levels
    if levels.bands and levels.frames(model.latent_shapes[0][1]) == 1:
        return False
    return stretched(model, round_up(2 * model.samples, length_step(model.config))) is not None


@dataclass(frozen=True)
class Source:
    """A recording that is read in parts.

    Attributes:
        read: Reads a part at its own level.
        length: In samples, at least 1.
        gain: The factor that brings it to the level of training.
    """

    read: Read
    length: int
    gain: float

    def scaled(self, first: int, last: int) -> Tensor:
        """A part at the level of training."""
        return self.read(first, last) * self.gain


def source_of(model: Autoencoder, audio: Tensor | np.ndarray, overlap: float | None) -> Source:
    """A recording in memory, [T] or [2, T]; raises ModelError if it or the overlap is not what the model takes."""
    checked = check_audio(model, audio, overlap or 0.0).detach()
    values = checked.cpu().float()
    return Source(lambda a, b: values[..., a:b], values.shape[-1], gain_of(checked, model.level))


def fade_for(model: Autoencoder, overlap: float | None, otherwise: float) -> int:
    """Samples that chunks share for an overlap; for None -1, one pass, or `otherwise` where a model takes none."""
    if overlap is None and takes_one_pass(model):
        return -1
    return fade_of(model.samples, otherwise if overlap is None else overlap)


def layout_for(model: Autoencoder, length: int, fade: int, batch: int = BATCH) -> "OnePass | Chunked":
    """How a recording of that many samples passes through the model; `fade` as from `fade_for`."""
    return OnePass(model, length) if fade < 0 else Chunked(model, length, fade, batch)


class OnePass:
    """A recording in one pass: its latents are a single piece, [rows, frames]."""

    def __init__(self, model: Autoencoder, length: int, models: dict[int, Autoencoder] | None = None) -> None:
        """`length`: of the recording, in samples; `models`: those stretched before, by samples, to which it adds."""
        self.model, self.length = model, length
        self.step = length_step(model.config)
        self.fade = int(FADE_S * model.rate / 2)
        self.padded = round_up(max(length, model.samples), self.step)
        self.context = round_up(reach(model) + self.fade, self.step)
        self.block = round_up(int(BLOCK_S * model.rate), self.step)
        self._models = {} if models is None else models
        ((_, frames),) = self.model_for(self.padded).latent_shapes
        self.frames = [frames]
        self.stride = self.padded // frames

    def encode(self, read: Read, run: Encode) -> list[Tensor]:
        """A recording of `length` samples -> the tensor [rows, frames] of the single level, on the CPU."""
        parts = []
        for start, end in self.blocks():
            first, last = self.around(start, end)
            (found,) = run(self.model_for(last - first), self._block(read, first, last))
            parts.append(found[0, :, (start - first) // self.stride : (end - first) // self.stride].cpu())
        return [torch.cat(parts, dim=1)]

    def decode(self, levels: Sequence[Tensor], run: Decode) -> Iterator[Tensor]:
        """The inverse of `encode`: pieces of the recording one after the other, [n] or [2, n] on the CPU."""

        def decoded(first: int, last: int) -> Tensor:
            own = levels[0][None, :, first // self.stride : last // self.stride]
            return run(self.model_for(last - first), [with_own_strides(own).to(self.model.device)])

        return self._joined(decoded)

    def reconstruct(self, read: Read) -> Iterator[Tensor]:
        """Encodes and decodes block by block: no latents are kept. Pieces as from `decode`."""
        wide = copy(self)
        wide.context = round_up(2 * reach(self.model) + self.fade, self.step)
        return wide._joined(lambda a, b: self.model_for(b - a).reconstruct(self._block(read, a, b)))

    def _block(self, read: Read, first: int, last: int) -> Tensor:
        """Samples of the padded recording as a batch of one."""
        audio = read(first, min(last, self.length))
        audio = torch.nn.functional.pad(audio, (0, last - first - audio.shape[-1]))
        return audio.reshape(1, -1, last - first).to(self.model.device)

    @torch.no_grad()
    def _joined(self, output_of: Callable[[int, int], Tensor]) -> Iterator[Tensor]:
        """Blocks with all around them, of which the middles cross-fade with raised cosines."""
        fade, ramp, waiting = self.fade, raised_cosine(2 * self.fade), torch.zeros(0, 0)
        for start, end in self.blocks():
            first, last = self.around(start, end)
            with self.model_for(last - first).decoding_at([first]):
                output = output_of(first, last)[0].float().cpu()
            left, right = max(start - fade, 0), min(end + fade, self.padded)
            piece = output[:, left - first : right - first].clone()
            if start:
                piece[:, : len(ramp)] = piece[:, : len(ramp)] * ramp + waiting
            ready = right - left if end == self.padded else right - left - len(ramp)
            waiting = piece[:, ready:] * ramp.flip(0)[: right - left - ready]
            yield piece[:, : max(0, min(ready, self.length - left))].squeeze(0)

    def blocks(self) -> list[tuple[int, int]]:
        """Start and end of the blocks, in samples."""
        starts = list(range(0, self.padded, self.block))
        if len(starts) > 1 and self.padded - starts[-1] < self.context:
            starts.pop()  # too short to cross-fade at both ends
        return list(zip(starts, [*starts[1:], self.padded], strict=True))

    def around(self, start: int, end: int) -> tuple[int, int]:
        """A block with its surroundings."""
        return max(0, start - self.context), min(self.padded, end + self.context)

    def model_for(self, samples: int) -> Autoencoder:
        """The model for a block of so many samples."""
        if samples not in self._models:
            model = stretched(self.model, samples)
            assert model is not None, "the caller asked takes_one_pass"
            self._models[samples] = model
        return self._models[samples]


class Chunked:
    """A recording in chunks that overlap: the latents of all chunks follow one another, [rows, chunks * frames]."""

    def __init__(self, model: Autoencoder, length: int, fade: int, batch: int = BATCH) -> None:
        """`fade`: samples that neighbouring chunks share and cross-fade over; `batch`: chunks that the model takes."""
        self.model, self.length, self.fade, self.batch = model, length, fade, batch
        self.chunks = count_chunks(length, model.samples, fade)

    @property
    def frames(self) -> list[int]:
        """Frames of all chunks of each level."""
        return [self.chunks * frames for _, frames in self.model.latent_shapes]

    def encode(self, read: Read, run: Encode) -> list[Tensor]:
        """A recording of `length` samples -> tensors [rows, frames] of each level on the CPU."""
        parts = []
        for starts in self._batches():
            levels = run(self.model, self._chunks(read, starts))
            parts.append([level.cpu().transpose(0, 1).flatten(1) for level in levels])
        return [torch.cat(level, dim=1) for level in zip(*parts, strict=True)]

    def decode(self, levels: Sequence[Tensor], run: Decode) -> Iterator[Tensor]:
        """The inverse of `encode`: pieces of the recording one after the other, [n] or [2, n] on the CPU."""
        apart = [level.unflatten(1, (self.chunks, -1)).transpose(0, 1) for level in levels]

        def decoded(starts: range) -> Tensor:
            first = starts[0] // starts.step
            own = [with_own_strides(level[first : first + len(starts)]).to(self.model.device) for level in apart]
            return run(self.model, own)

        return self._joined(decoded)

    def reconstruct(self, read: Read) -> Iterator[Tensor]:
        """Encodes and decodes batch by batch: no latents are kept. Pieces as from `decode`."""
        return self._joined(lambda starts: self.model.reconstruct(self._chunks(read, starts)))

    def _batches(self) -> Iterator[range]:
        """First samples of the chunks of each batch."""
        for first in range(0, self.chunks, self.batch):
            yield chunk_starts(first, min(self.batch, self.chunks - first), self.model.samples, self.fade)

    def _chunks(self, read: Read, starts: range) -> Tensor:
        audio = read(starts[0], min(starts[-1] + self.model.samples, self.length))
        return split_chunks(audio, self.model.samples, self.fade).to(self.model.device)

    def _joined(self, output_of: Callable[[range], Tensor]) -> Iterator[Tensor]:
        return joined_chunks(self._outputs(output_of), self.model.samples, self.fade, self.length)

    @torch.no_grad()
    def _outputs(self, output_of: Callable[[range], Tensor]) -> Iterator[Tensor]:
        for starts in self._batches():
            with self.model.decoding_at(starts):
                output = output_of(starts).float().cpu()
            yield output


def with_own_strides(tensor: Tensor) -> Tensor:
    """A copy with the strides of a new tensor.

    `contiguous` keeps any stride of a dimension of size 1. On some CPUs a convolution takes another path for it, so the
    output of a model differs by rounding.
    """
    return tensor.clone(memory_format=torch.contiguous_format)


def round_up(count: int, step: int) -> int:
    """The next multiple of the step."""
    return -(-count // step) * step
