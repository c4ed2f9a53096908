"""Reconstructs recordings of any length piece by piece, so that the memory does not depend on the length."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from audiovae.models.autoencoder import Autoencoder
from audiovae.recordings.overlap_add import (
    BATCH,
    check_audio,
    chunk_starts,
    count_chunks,
    fade_of,
    fade_window,
    gain_of,
    raised_cosine,
    split_chunks,
)
from audiovae.recordings.pieces import OnePass, reach, round_up, takes_one_pass

OVERLAP = 0.25

# From the first sample and the one after the last to that part of a recording, [n] or [2, n].
Read = Callable[[int, int], Tensor]


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
    if overlap is None and takes_one_pass(model):
        pieces = _in_one_pass(model, read, length, gain)
    else:
        fade = fade_of(model.samples, OVERLAP if overlap is None else overlap)
        pieces = _in_chunks(model, read, length, gain, fade, batch)
    for piece in pieces:
        yield piece / gain


@torch.no_grad()
def _in_chunks(model: Autoencoder, read: Read, length: int, gain: float, fade: int, batch: int) -> Iterator[Tensor]:
    """Chunks that share `fade` samples; what two batches share waits for the second one."""
    size, hop = model.samples, model.samples - fade
    window, channels = fade_window(size, fade), model.audio_channels
    waiting = torch.zeros(channels + 1, 0)
    count, device = count_chunks(length, size, fade), next(model.parameters()).device
    for first in range(0, count, batch):
        starts = chunk_starts(first, min(batch, count - first), size, fade)
        part = split_chunks(read(starts[0], min(starts[-1] + size, length)) * gain, size, fade)
        with model.decoding_at(starts):
            output = model.reconstruct(part.to(device)).float().cpu()
        sums = torch.zeros(channels + 1, (len(starts) - 1) * hop + size)  # weighted samples, and weights
        sums[:, : waiting.shape[1]] = waiting
        for place, chunk in zip(range(0, len(starts) * hop, hop), output, strict=True):
            sums[:channels, place : place + size] += window * chunk
            sums[channels, place : place + size] += window
        ready = sums.shape[1] - (fade if first + batch < count else 0)
        waiting = sums[:, ready:]
        yield (sums[:channels, :ready] / sums[channels, :ready])[:, : length - starts[0]].squeeze(0)


@torch.no_grad()
def _in_one_pass(model: Autoencoder, read: Read, length: int, gain: float) -> Iterator[Tensor]:
    """Blocks with all around them that the convolutions of encoder and decoder reach."""
    layout = OnePass(model, length)
    layout.context = round_up(2 * reach(model) + layout.fade, layout.step)
    fade, device = layout.fade, model.device
    ramp = raised_cosine(2 * fade)
    waiting = torch.zeros(model.audio_channels, 0)
    for start, end in layout.blocks():
        first, last = layout.around(start, end)
        audio = read(first, min(last, length)) * gain
        audio = torch.nn.functional.pad(audio, (0, last - first - audio.shape[-1])).reshape(1, -1, last - first)
        part = layout.model_for(last - first)
        with part.decoding_at([first]):
            output = part.reconstruct(audio.to(device))[0].float().cpu()
        left, right = max(start - fade, 0), min(end + fade, layout.padded)
        piece = output[:, left - first : right - first].clone()
        if start:
            piece[:, : len(ramp)] = piece[:, : len(ramp)] * ramp + waiting
        ready = right - left if end == layout.padded else right - left - len(ramp)
        waiting = piece[:, ready:] * ramp.flip(0)[: right - left - ready]
        yield piece[:, : max(0, min(ready, length - left))].squeeze(0)
