"""Whole recordings as latents: codes or real numbers, from which `reconstruct_recording`'s audio comes back."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.models.autoencoder import Autoencoder
from audiovae.recordings.overlap_add import (
    BATCH,
    check_audio,
    count_chunks,
    fade_of,
    gain_of,
    join_chunks,
    split_chunks,
)
from audiovae.saved.model_folder import fingerprint

Precision = Literal["float32", "float16"]
DTYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass
class CodedRecording:
    """A recording as a model's latents.

    Attributes:
        latents: The chunks', on the CPU, [chunks, channels, frames] for each of the model's `latent_shapes`: int64
            codes, or float32 or float16.
        length: Of the recording in samples at `rate`.
        rate: Hz.
        samples: Of a chunk.
        fade: Samples that neighbouring chunks share.
        gain: What the recording was multiplied by, so that the model heard the level of its training.
        code_size: Codes in each codebook; 0 for real latents.
        family: Of the model.
        model: The model's fingerprint: no other one can make sense of the latents.
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
        """Length of the recording."""
        return self.length / self.rate

    @property
    def bits_each(self) -> int:
        """Bits of one value of the latents as they are kept: of a code, as many as its codebook's size needs."""
        return code_bits(self.code_size) if self.code_size else self.latents[0].element_size() * 8

    @property
    def bits_per_second(self) -> float:
        """Of the latents alone; chunks that overlap count for what they are."""
        return sum(level.numel() for level in self.latents) * self.bits_each / self.seconds


def code_bits(size: int) -> int:
    """Bits that tell `size` codes apart, at least one."""
    return max(1, (size - 1).bit_length())


@torch.no_grad()
def encode_recording(
    model: Autoencoder,
    audio: Tensor | np.ndarray,
    overlap: float = 0.25,
    precision: Precision = "float32",
    batch: int = BATCH,
) -> CodedRecording:
    """A recording as latents, without noise.

    Args:
        model: In evaluation mode.
        audio: [T] float in [-1, 1] at the model's rate, T at least 1; a tensor or an array.
        overlap: Share of a chunk that neighbours share and cross-fade over, in [0, 0.5]. Latents are kept twice there:
            0 takes the fewest bits, and joints may be heard.
        precision: In which real latents are kept; codes have no use for it.
        batch: Chunks at a time.

    Raises:
        ModelError: for audio or an overlap that cannot be, when latents are too large for the precision, and when
            codebooks have not started.
    """
    audio = check_audio(audio, overlap)
    if precision not in DTYPES:
        raise ModelError(f"precision is {precision}: choose {' or '.join(DTYPES)}")
    if not model.ready:
        raise ModelError("saved before its codebooks started, so it has no codes yet; train it further")
    device = next(model.parameters()).device
    fade, gain = fade_of(model.samples, overlap), gain_of(audio, model.level)
    chunks = split_chunks(audio.float() * gain, model.samples, fade)
    parts = []
    for part in chunks.split(batch):
        levels = model.to_tensors(model.encode(part.to(device)))
        parts.append([(level.to(DTYPES[precision]) if level.is_floating_point() else level).cpu() for level in levels])
    latents = [torch.cat(level) for level in zip(*parts, strict=True)]
    if not all(level.isfinite().all() for level in latents):
        raise ModelError(f"latents that {precision} cannot hold; choose float32")
    return CodedRecording(
        latents=latents,
        length=len(audio),
        rate=model.rate,
        samples=model.samples,
        fade=fade,
        gain=gain,
        code_size=model.code_size,
        family=model.family,
        model=fingerprint(model),
    )


@torch.no_grad()
def decode_recording(model: Autoencoder, coded: CodedRecording, batch: int = BATCH) -> Tensor:
    """The recording: from latents in float32 and from codes, the same as `reconstruct_recording` makes.

    Args:
        model: The one that encoded, in evaluation mode.
        coded: From `encode_recording` or `read_latents`.
        batch: Chunks at a time.

    Returns:
        [T] float32 at the input's level.

    Raises:
        ModelError: when another model encoded it, or parts do not fit each other.
    """
    if coded.model != fingerprint(model):
        raise ModelError(
            f"encoded by another model, a {coded.family} of fingerprint {coded.model} (this is a {model.family} of "
            f"{fingerprint(model)}); decode with the model that encoded"
        )
    if coded.code_size != model.code_size:
        raise ModelError(f"codebooks of {coded.code_size} codes where the model has {model.code_size}")
    chunks = count_chunks(coded.length, model.samples, coded.fade)
    found = [tuple(level.shape) for level in coded.latents]
    wanted = [(chunks, *shape) for shape in model.latent_shapes]
    if found != wanted or (coded.samples, coded.rate) != (model.samples, model.rate):
        raise ModelError(f"latents of shape {found} where the model has {wanted}; encode the recording again")
    device = next(model.parameters()).device
    outputs = []
    for first in range(0, chunks, batch):
        levels = [level[first : first + batch].to(device) for level in coded.latents]
        levels = [level.float() if level.is_floating_point() else level for level in levels]
        outputs.append(model.decode(model.from_tensors(levels)).float().cpu())
    return join_chunks(torch.cat(outputs), coded.fade)[: coded.length] / coded.gain
