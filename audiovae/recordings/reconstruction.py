"""Reconstructs recordings of any length piece by piece, so that the memory does not depend on the length."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from audiovae.models.autoencoder import Autoencoder
from audiovae.recordings.overlap_add import BATCH, check_audio, fade_of, gain_of
from audiovae.recordings.pieces import Chunked, OnePass, Read, takes_one_pass

OVERLAP = 0.25


@torch.no_grad()
def reconstruct_recording(
    model: Autoencoder, audio: Tensor | np.ndarray, overlap: float | None = OVERLAP, batch: int = BATCH
) -> Tensor:
    """Encodes and decodes a recording.

    Args:
        model: A model in evaluation mode.
        audio: [T], of stereo [2, T], floats in [-1, 1] at the model's rate, T at least 1; a tensor or an array.
        overlap: Share of a chunk, in [0, 0.5], that neighbouring chunks have in common and cross-fade over. None takes
            the recording in one pass where the model allows it, see `audiovae.recordings.pieces`, and 0.25 elsewhere.
        batch: Chunks per batch.

    Returns:
        [T] or [2, T] float32 at the level of the input.

    Raises:
        ModelError: if the audio or the overlap is invalid.
    """
    audio = check_audio(model, audio, overlap or 0.0)
    gain = gain_of(audio, model.level)
    length = audio.shape[-1]
    pieces = reconstructed(model, lambda a, b: audio[..., a:b].float(), length, gain, overlap, batch)
    return torch.cat([*pieces], dim=-1)


def reconstructed(
    model: Autoencoder, read: Read, length: int, gain: float, overlap: float | None = OVERLAP, batch: int = BATCH
) -> Iterator[Tensor]:
    """The pieces of `reconstruct_recording` one after the other, [n] or [2, n] float32 on the CPU.

    Args:
        model: A model in evaluation mode.
        read: Reads parts of the recording.
        length: Of the recording in samples, at least 1.
        gain: Factor before the model; the output is divided by it.
        overlap, batch: As in `reconstruct_recording`.
    """
    layout: OnePass | Chunked
    if overlap is None and takes_one_pass(model):
        layout = OnePass(model, length)
    else:
        layout = Chunked(model, length, fade_of(model.samples, OVERLAP if overlap is None else overlap), batch)
    for piece in layout.reconstruct(lambda a, b: read(a, b) * gain):
        yield piece / gain
