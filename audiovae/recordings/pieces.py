"""Passes recordings of any length through a model: in one pass where the model allows it, in chunks where not.

One pass means that the convolutions see the recording as a whole. It is computed in blocks that overlap by what the
convolutions reach, so the memory is bounded and no latents are stored twice. It needs a model whose layers all have
more frames in a chunk than their kernels reach. Otherwise some weights met only padding in training and hold no
knowledge: in an HVAE the coarse levels, with one to seven frames a chunk. Such models take chunks, which overlap a
little.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiovae.layers.trunk import TrunkConfig
from audiovae.models.autoencoder import Autoencoder
from audiovae.models.lengths import length_step, stretched
from audiovae.recordings.overlap_add import BATCH, chunk_starts, count_chunks, join_chunks, raised_cosine, split_chunks

BLOCK_S = 60
# Seconds over which blocks cross-fade. Models of waveforms have equal samples there; Griffin-Lim has not.
FADE_S = 0.02

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

    def encode(self, audio: Tensor, run: Encode) -> list[Tensor]:
        """A recording of `length` samples -> the tensor [rows, frames] of the single level, on the CPU."""
        device = next(self.model.parameters()).device
        audio = torch.nn.functional.pad(audio, (0, self.padded - audio.shape[-1]))
        parts = []
        for start, end in self.blocks():
            first, last = self.around(start, end)
            (found,) = run(self.model_for(last - first), audio[..., first:last].reshape(1, -1, last - first).to(device))
            parts.append(found[0, :, (start - first) // self.stride : (end - first) // self.stride].cpu())
        return [torch.cat(parts, dim=1)]

    def decode(self, levels: Sequence[Tensor], run: Decode) -> Tensor:
        """The inverse of `encode`, on the CPU. Blocks cross-fade with raised cosines."""
        device = next(self.model.parameters()).device
        ramp = raised_cosine(2 * self.fade)
        whole = torch.zeros(self.model.audio_channels, self.padded)
        for start, end in self.blocks():
            first, last = self.around(start, end)
            own = levels[0][None, :, first // self.stride : last // self.stride].to(device)
            model = self.model_for(last - first)
            left, right = max(start - self.fade, 0), min(end + self.fade, self.padded)
            with model.decoding_at([first]):
                piece = run(model, [own])[0].float().cpu()[:, left - first : right - first]
            if start:
                piece[:, : len(ramp)] *= ramp
            if end < self.padded:
                piece[:, piece.shape[1] - len(ramp) :] *= ramp.flip(0)
            whole[:, left:right] += piece
        return whole[:, : self.length].squeeze(0)

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

    def __init__(self, model: Autoencoder, length: int, fade: int) -> None:
        """`fade`: samples that neighbouring chunks share and cross-fade over."""
        self.model, self.length, self.fade = model, length, fade
        self.chunks = count_chunks(length, model.samples, fade)
        self.frames = [self.chunks * frames for _, frames in model.latent_shapes]

    def encode(self, audio: Tensor, run: Encode) -> list[Tensor]:
        """A recording of `length` samples -> tensors [rows, frames] of each level on the CPU."""
        device = next(self.model.parameters()).device
        parts = []
        for part in split_chunks(audio, self.model.samples, self.fade).split(BATCH):
            parts.append([level.cpu().transpose(0, 1).flatten(1) for level in run(self.model, part.to(device))])
        return [torch.cat(level, dim=1) for level in zip(*parts, strict=True)]

    def decode(self, levels: Sequence[Tensor], run: Decode) -> Tensor:
        """The inverse of `encode`, on the CPU."""
        device = next(self.model.parameters()).device
        apart = [level.unflatten(1, (self.chunks, -1)).transpose(0, 1) for level in levels]
        outputs = []
        for first in range(0, self.chunks, BATCH):
            own = [level[first : first + BATCH].contiguous().to(device) for level in apart]
            with self.model.decoding_at(chunk_starts(first, len(own[0]), self.model.samples, self.fade)):
                outputs.append(run(self.model, own).float().cpu())
        return join_chunks(torch.cat(outputs), self.fade)[..., : self.length]


def round_up(count: int, step: int) -> int:
    """The next multiple of the step."""
    return -(-count // step) * step
