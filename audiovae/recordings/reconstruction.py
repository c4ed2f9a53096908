"""Reconstructs recordings of any length piece by piece, so that the memory does not depend on the length."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from audiovae.models.autoencoder import Autoencoder
from audiovae.recordings.overlap_add import BATCH
from audiovae.recordings.pieces import Source, fade_for, layout_for, source_of

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
    return torch.cat([*reconstructed(model, source_of(model, audio, overlap), overlap, batch)], dim=-1)


def reconstructed(
    model: Autoencoder, source: Source, overlap: float | None = OVERLAP, batch: int = BATCH
) -> Iterator[Tensor]:
    """The pieces of `reconstruct_recording` one after the other, [n] or [2, n] float32 on the CPU."""
    layout = layout_for(model, source.length, fade_for(model, overlap, OVERLAP), batch)
    return (piece / source.gain for piece in layout.reconstruct(source.scaled))
