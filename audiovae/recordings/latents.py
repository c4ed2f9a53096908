"""Encodes whole recordings as latents and decodes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.models.autoencoder import Autoencoder
from audiovae.recordings.overlap_add import BATCH, check_gain, count_chunks, fade_of
from audiovae.recordings.pieces import Chunked, Source, source_of
from audiovae.saved.model_folder import fingerprint

Precision = Literal["float32", "float16"]
DTYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass
class CodedRecording:
    """A recording as latents of a model.

    Attributes:
        latents: On the CPU, [chunks, channels, frames] for each entry of the model's `latent_shapes`: int64 codes, or
            float32 or float16 values.
        length: Length of the recording in samples at `rate`.
        rate: Sample rate in Hz.
        samples: Chunk length in samples.
        fade: Samples that neighbouring chunks share.
        gain: Factor that brought the recording to the level of the training data.
        code_size: Codes in each codebook; 0 for real latents.
        family: Family of the model.
        model: Fingerprint of the model; only this model can decode the latents.
    """

    latents: list[Tensor]
    length: int
    rate: int
    samples: int
    fade: int
    gain: float
    code_size: int
    family: str
    model: str

    @property
    def seconds(self) -> float:
        """Length of the recording in seconds."""
        return self.length / self.rate

    @property
    def bits_each(self) -> int:
        """Bits of one stored value. A code takes as many bits as the size of its codebook needs."""
        return code_bits(self.code_size) if self.code_size else self.latents[0].element_size() * 8

    @property
    def bits_per_second(self) -> float:
        """Bit rate of the latents, including the overlap of chunks."""
        return sum(level.numel() for level in self.latents) * self.bits_each / self.seconds


def code_bits(size: int) -> int:
    """Bits needed for one of `size` codes, at least 1."""
    return max(1, (size - 1).bit_length())


def encode_recording(
    model: Autoencoder,
    audio: Tensor | np.ndarray,
    overlap: float = 0.25,
    precision: Precision = "float32",
    batch: int = BATCH,
) -> CodedRecording:
    """Encodes a recording as latents, without noise.

    Args:
        model: A model in evaluation mode.
        audio: [T], of stereo [2, T], floats in [-1, 1] at the model's rate, T at least 1; a tensor or an array.
        overlap: Share of a chunk, in [0, 0.5], that neighbouring chunks have in common and cross-fade over. Latents of
            the overlap are stored twice: 0 takes the fewest bits, but chunk boundaries may be audible.
        precision: Number format of real latents; it does not affect codes.
        batch: Chunks per batch.

    Raises:
        ModelError: if the audio or the overlap is invalid, latents exceed the range of the precision, or the codebooks
            of the model have not started.
    """
    return encoded(model, source_of(model, audio, overlap), overlap, precision, batch)


@torch.no_grad()
def encoded(
    model: Autoencoder, source: Source, overlap: float, precision: Precision = "float32", batch: int = BATCH
) -> CodedRecording:
    """`encode_recording` of a recording that is read in parts."""
    if precision not in DTYPES:
        raise ModelError(f"precision is {precision}: choose {' or '.join(DTYPES)}")
    if not model.ready:
        raise ModelError("the model was saved before its codebooks started and has no codes yet; train it further")
    check_gain(source.gain)
    layout = Chunked(model, source.length, fade_of(model.samples, overlap), batch)

    def run(model: Autoencoder, part: Tensor) -> list[Tensor]:
        levels = model.to_tensors(model.encode(part))
        return [level.to(DTYPES[precision]) if level.is_floating_point() else level for level in levels]

    levels = layout.encode(source.scaled, run)
    latents = [level.unflatten(1, (layout.chunks, -1)).transpose(0, 1).contiguous() for level in levels]
    if not all(level.isfinite().all() for level in latents):
        raise ModelError(f"the latents exceed the range of {precision}; choose float32")
    return CodedRecording(
        latents=latents,
        length=source.length,
        rate=model.rate,
        samples=model.samples,
        fade=layout.fade,
        gain=source.gain,
        code_size=model.code_size,
        family=model.family,
        model=fingerprint(model),
    )


def decode_recording(model: Autoencoder, coded: CodedRecording, batch: int = BATCH) -> Tensor:
    """Decodes a recording. From float32 latents and from codes, the result equals that of `reconstruct_recording`.

    Args:
        model: The model that encoded the recording, in evaluation mode.
        coded: Latents from `encode_recording` or `read_latents`.
        batch: Chunks per batch.

    Returns:
        [T], of stereo [2, T], float32 at the level of the input.

    Raises:
        ModelError: if another model encoded the recording, or the latents are inconsistent.
    """
    return torch.cat([*decoded(model, coded, batch)], dim=-1)


def decoded(model: Autoencoder, coded: CodedRecording, batch: int = BATCH) -> Iterator[Tensor]:
    """The pieces of `decode_recording` one after the other; raises ModelError before the first one is made."""
    if coded.model != fingerprint(model):
        raise ModelError(
            f"encoded by another model, a {coded.family} of fingerprint {coded.model} (this is a {model.family} of "
            f"{fingerprint(model)}); decode with the model that encoded"
        )
    if coded.code_size != model.code_size:
        raise ModelError(f"codebooks of {coded.code_size} codes, but the model has {model.code_size}")
    chunks = count_chunks(coded.length, model.samples, coded.fade)
    found = [tuple(level.shape) for level in coded.latents]
    wanted = [(chunks, *shape) for shape in model.latent_shapes]
    if found != wanted or (coded.samples, coded.rate) != (model.samples, model.rate):
        raise ModelError(f"latents of shape {found}, but the model has {wanted}; encode the recording again")
    layout = Chunked(model, coded.length, coded.fade, batch)

    def run(model: Autoencoder, levels: list[Tensor]) -> Tensor:
        return model.decode(
            model.from_tensors([level.float() if level.is_floating_point() else level for level in levels])
        )

    pieces = layout.decode([level.transpose(0, 1).flatten(1) for level in coded.latents], run)
    return (piece / coded.gain for piece in pieces)
