"""Recordings as sequences of frames, which learned priors model, for every family.

A frame holds all latents of a unit of time. With one level of latents it is a column of them. With several it lasts as
long as the columns of the coarsest level, or their greatest common divisor, and holds the columns of every level.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.models.autoencoder import Autoencoder
from audiovae.priors.latents import STEP, LatentsConfig
from audiovae.recordings.compressed import OVERLAP
from audiovae.recordings.overlap_add import check_audio
from audiovae.recordings.pieces import Chunked, OnePass, fade_for
from audiovae.saved.model_folder import fingerprint

# Stretched models that are kept: recordings of one length share them.
MOST_MODELS = 64


def join_levels(levels: Sequence[Tensor]) -> Tensor:
    """Latents of each level as one sequence.

    Args:
        levels: [channels, columns] each, finest first.

    Returns:
        [rows, frames]; the number of frames is the greatest common divisor of the columns. In a frame, level 0 comes
        first; within a level, column after column.
    """
    frames = math.gcd(*(level.shape[1] for level in levels))
    return torch.cat([level.unflatten(1, (frames, -1)).permute(2, 0, 1).flatten(0, 1) for level in levels])


def part_levels(sequence: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The inverse of `join_levels`.

    Args:
        sequence: [rows, frames].
        shapes: Channels and columns of each level in a chunk, finest first; any common multiple of the columns will do.
    """
    frames = math.gcd(*(columns for _, columns in shapes))
    sizes = [channels * columns // frames for channels, columns in shapes]
    parts = sequence.split(sizes)
    return [
        part.unflatten(0, (-1, channels)).permute(1, 2, 0).flatten(1)
        for part, (channels, _) in zip(parts, shapes, strict=True)
    ]


class Frames:
    """How a model divides recordings into frames. One for all recordings of a model saves time.

    Attributes:
        fade: -1 if the model takes recordings in one pass, else samples that neighbouring chunks share.
        rows: Numbers in a frame.
        stride: Samples of audio between frames within a chunk.
        chunk: Frames of a chunk.
        grain: A sequence is a whole number of so many frames: a chunk, or in one pass the frames that share levels of
            the upper bands.
    """

    def __init__(self, model: Autoencoder) -> None:
        self.model = model
        self._models: dict[int, Autoencoder] = {}
        self.fade = fade_for(model, None, OVERLAP)
        self.chunk = math.gcd(*(columns for _, columns in model.latent_shapes))
        self.rows = sum(channels * columns for channels, columns in model.latent_shapes) // self.chunk
        if self.fade < 0:
            layout = OnePass(model, model.samples)
            self.stride, self.grain = layout.stride, max(1, layout.step // layout.stride)
        else:
            self.stride = max(1, model.samples // self.chunk)
            self.grain = self.chunk

    def samples(self, frames: int) -> int:
        """Samples of audio in a sequence of whole grains."""
        if self.fade < 0:
            return frames * self.stride
        return frames // self.chunk * (self.model.samples - self.fade) + self.fade

    def fitting(self, samples: int, up: bool = False) -> int:
        """Frames of the longest sequence of whole grains that is no longer than so many samples.

        With `up`, those of the shortest sequence that is no shorter.
        """
        first, step = self.samples(self.grain), self.samples(2 * self.grain) - self.samples(self.grain)
        if up:
            return self.grain * (1 + max(0, -(-(samples - first) // step)))
        return self.grain * max(0, 1 + (samples - first) // step)

    def nearest(self, seconds: float) -> int:
        """Frames of the sequence of whole grains whose length is nearest to this one; at least one grain."""
        first, step = self.samples(self.grain), self.samples(2 * self.grain) - self.samples(self.grain)
        return self.grain * (1 + max(0, round((seconds * self.model.rate - first) / step)))

    def layout(self, length: int) -> OnePass | Chunked:
        """How a recording of that many samples passes through the model."""
        if self.fade >= 0:
            return Chunked(self.model, length, self.fade)
        if len(self._models) >= MOST_MODELS:
            self._models.clear()
        return OnePass(self.model, length, self._models)

    def hop(self, frames: int) -> int:
        """Half of a window of that many frames, in whole grains; at least one grain."""
        return self.grain * max(1, frames // self.grain // 2)


def layout_of(model: Autoencoder, frames: int) -> LatentsConfig:
    """What a prior must know about the latents of a model, for windows of that many frames.

    Raises:
        ModelError: if codes of this model do not fit into 16 bits.
    """
    found = Frames(model)
    try:
        return LatentsConfig(
            model=fingerprint(model),
            family=model.family,
            kind="codes" if model.code_size else "real",
            rows=found.rows,
            size=model.code_size,
            frames=frames,
            stride=found.stride,
            rate=model.rate,
            fade=found.fade,
            chunk_frames=found.chunk,
        )
    except ValueError as error:
        raise ModelError(f"{error}; a prior cannot learn from this model") from None


@torch.no_grad()
def sequence_of(model: Autoencoder, audio: Tensor | np.ndarray, frames: Frames | None = None) -> Tensor:
    """Encodes a recording as a sequence, without noise.

    Args:
        model: A model in evaluation mode.
        audio: [T], of stereo [2, T], floats in [-1, 1] at the model's rate and level, T at least 1.
        frames: `Frames(model)`, if there is one.

    Returns:
        [rows, frames] on the CPU: posterior means in float32, or codes in int64. The end is padded with silence to
        whole frames and to a chunk; in chunks, to whole chunks.

    Raises:
        ModelError: if the audio is invalid, or the codebooks of the model have not started.
    """
    audio = check_audio(model, audio, 0.0)
    check_ready(model)
    layout = (frames or Frames(model)).layout(audio.shape[-1])
    whole = audio.detach().cpu().float()
    levels = layout.encode(lambda a, b: whole[..., a:b], lambda piece, part: piece.to_tensors(piece.encode(part)))
    return join_levels([level if model.code_size else level.float() for level in levels])


@torch.no_grad()
def audio_of(model: Autoencoder, sequence: Tensor) -> Tensor:
    """Decodes a sequence.

    Args:
        model: The model that encoded it, or from whose latents it is drawn, in evaluation mode.
        sequence: [rows, frames] as from `sequence_of`, of any number of frames; of a model that takes chunks, of whole
            chunks.

    Returns:
        [T] or [2, T] float32 on the CPU at the level of training: in one pass frames * stride samples.

    Raises:
        ModelError: if the sequence does not fit the model.
    """
    frames = Frames(model)
    kind = "codes, int64" if model.code_size else "floats"
    fits = sequence.ndim == 2 and sequence.shape[0] == frames.rows and sequence.shape[1] > 0
    if not fits or sequence.is_floating_point() == bool(model.code_size):
        raise ModelError(
            f"a sequence of shape {list(sequence.shape)}, {sequence.dtype}: expected [{frames.rows}, frames] {kind}"
        )
    count = sequence.shape[1]
    if frames.fade >= 0 and count % frames.chunk:
        raise ModelError(f"a sequence of {count} frames: expected whole chunks of {frames.chunk} frames")
    layout = frames.layout(length := frames.samples(count))
    if missing := math.gcd(*layout.frames) - count:
        sequence = _lengthened(sequence, missing, frames.grain)
    levels = part_levels(sequence, model.latent_shapes)
    pieces = layout.decode(levels, lambda piece, own: piece.decode(piece.from_tensors(own)))
    return torch.cat([*pieces], dim=-1)[..., :length]


def to_numbers(sequence: Tensor) -> np.ndarray:
    """A sequence as a data set of latents stores it: [rows, frames] -> int16 [frames, rows].

    Codes stay as they are, real latents become whole numbers of STEP.

    Raises:
        ModelError: if a real latent is out of range or not finite.
    """
    if sequence.is_floating_point():
        limits = torch.iinfo(torch.int16)
        sequence = (sequence / STEP).round()
        if not ((sequence >= limits.min) & (sequence <= limits.max)).all():
            bound = limits.max * STEP
            raise ModelError(f"a latent is not finite or not in [-{bound:g}, {bound:g}], the range of a data set")
    return sequence.T.to(torch.int16).contiguous().numpy()


def check_ready(model: Autoencoder) -> None:
    """Raises ModelError if the model has no codes yet."""
    if not model.ready:
        raise ModelError("the model was saved before its codebooks started and has no codes yet; train it further")


def _lengthened(sequence: Tensor, missing: int, grain: int) -> Tensor:
    """A sequence with its last grain repeated, so that a frame that is added has the place in a grain that it needs."""
    count = sequence.shape[1]
    added = torch.arange(count, count + missing)
    added = added - grain * ((added - count) // grain + 1)
    return torch.cat([sequence, sequence[:, added.clamp_min(0)]], dim=1)
