"""Recordings as few bits: latents quantised to the posterior's deviation, or codes, behind an entropy coder.

A real latent is stored relative to its prior, as a whole number of steps. The step of a channel is a multiple of the
posterior's typical deviation in this recording, rounded to an eighth of an octave. At a multiple of sqrt(12) = 3.46 the
error has the variance of a draw from the posterior, so the rate compares with the KL divergence. The whole numbers come
back exactly on every machine; the audio is what the network's floats make of them.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from audiovae.coding import range_coder, symbols, whole_numbers
from audiovae.errors import ModelError
from audiovae.models.autoencoder import Autoencoder, Choice
from audiovae.recordings.compressed_file import LONGEST, CompressedRecording
from audiovae.recordings.overlap_add import check_gain
from audiovae.recordings.pieces import (
    Chunked,
    OnePass,
    Read,
    Source,
    fade_for,
    layout_for,
    source_of,
    takes_one_pass,
)
from audiovae.saved.model_folder import fingerprint

# Step in posterior deviations, and its range.
STEP = 3.0
SMALLEST_STEP, LARGEST_STEP = 0.125, 32.0
# Overlap of chunks where a model does not take one pass: enough to hide the joint.
OVERLAP = 0.02
# A channel's step is 2^((index - MIDDLE) / PER_OCTAVE).
PER_OCTAVE, MIDDLE = 8, 128


@torch.no_grad()
def compress_recording(
    model: Autoencoder, audio: Tensor | np.ndarray, step: float = STEP, overlap: float | None = None
) -> CompressedRecording:
    """Encodes a recording in few bits.

    Args:
        model: A model in evaluation mode.
        audio: [T], of stereo [2, T], floats in [-1, 1] at the model's rate, T at least 1; a tensor or an array.
        step: Width of the quantiser's steps in posterior deviations, 0.125 to 32; more takes fewer bits. Codes have no
            steps.
        overlap: Share of a chunk, in [0, 0.5], that neighbouring chunks have in common. None takes the recording in one
            pass where the model allows it, see `audiovae.recordings.pieces`, and an overlap of 0.02 elsewhere.

    Raises:
        ModelError: if an argument is invalid, or the codebooks of the model have not started.
    """
    return compressed(model, source_of(model, audio, overlap), step, overlap)


@torch.no_grad()
def compressed(
    model: Autoencoder, source: Source, step: float = STEP, overlap: float | None = None
) -> CompressedRecording:
    """`compress_recording` of a recording that is read in parts."""
    if source.length > LONGEST:
        raise ModelError(f"the recording has {source.length:,} samples, and a file holds {LONGEST:,}: cut it in parts")
    if not SMALLEST_STEP <= step <= LARGEST_STEP:
        raise ModelError(f"step is {step}: choose {SMALLEST_STEP:g} to {LARGEST_STEP:g}")
    if not model.ready:
        raise ModelError("the model was saved before its codebooks started and has no codes yet; train it further")
    check_gain(source.gain)
    fade = fade_for(model, overlap, OVERLAP)
    layout = layout_for(model, source.length, fade)
    indices: list[np.ndarray] = []
    if model.code_size:
        (codes,) = layout.encode(source.scaled, lambda piece, part: [piece.encode(part)])  # type: ignore[list-item]
        intervals = symbols.intervals_of(codes.numpy(), _use(model))
    else:
        indices = _step_indices(layout, source.scaled, step)
        steps = [_steps(index) for index in indices]
        levels = layout.encode(source.scaled, lambda piece, part: piece.encode_relative(part, _quantiser(steps)))
        numbers = [_whole(level, own) for level, own in zip(levels, steps, strict=True)]
        intervals = range_coder.Intervals()
        for level in reversed(numbers):
            intervals.extend(whole_numbers.intervals_of(level))
    return CompressedRecording(
        payload=range_coder.encode(intervals),
        steps=indices,
        length=source.length,
        rate=model.rate,
        fade=fade,
        gain=source.gain,
        family=model.family,
        model=fingerprint(model),
    )


def decompress_recording(model: Autoencoder, coded: CompressedRecording) -> Tensor:
    """Decodes a compressed recording: [T], of stereo [2, T], float32 at the level of the input.

    Args:
        model: The model that encoded the recording, in evaluation mode.
        coded: From `compress_recording` or `read_compressed`.

    Raises:
        ModelError: if another model encoded the recording, or the latents are damaged.
    """
    return torch.cat([*decompressed(model, coded)], dim=-1)


def decompressed(model: Autoencoder, coded: CompressedRecording) -> Iterator[Tensor]:
    """The pieces of `decompress_recording` one after the other; raises ModelError before the first one is made."""
    layout, numbers = _numbers(model, coded)
    levels = [torch.from_numpy(level) for level in numbers]
    steps = [_steps(index).to(model.device) for index in coded.steps]

    def decoded(piece: Autoencoder, part: Sequence[Tensor]) -> Tensor:
        if model.code_size:
            return piece.decode(part[0].long())
        return piece.decode_relative([level.float() * own for level, own in zip(part, steps, strict=True)])

    return (piece / coded.gain for piece in layout.decode(levels, decoded))


def stored_numbers(model: Autoencoder, coded: CompressedRecording) -> list[np.ndarray]:
    """The whole numbers of a compressed recording, the same on every machine, without decoding audio.

    Returns:
        int64 [channels, frames] for each level, finest first, in steps; or the codes, [codebooks, frames].

    Raises:
        ModelError: as `decompress_recording`.
    """
    return [level.astype(np.int64, order="C") for level in _numbers(model, coded)[1]]


def _numbers(model: Autoencoder, coded: CompressedRecording) -> tuple[OnePass | Chunked, list[np.ndarray]]:
    """The layout and the whole numbers of each level."""
    if coded.model != fingerprint(model):
        raise ModelError(
            f"encoded by another model, a {coded.family} of fingerprint {coded.model} (this is a {model.family} of "
            f"{fingerprint(model)}); decode with the model that encoded"
        )
    wanted = [] if model.code_size else [channels for channels, _ in model.latent_shapes]
    possible = coded.fade <= model.samples // 2 and (coded.fade >= 0 or takes_one_pass(model))
    if [len(index) for index in coded.steps] != wanted or coded.rate != model.rate or not possible:
        raise ModelError("the header does not fit the model; encode the recording again")
    layout = layout_for(model, coded.length, coded.fade)
    try:
        decoder = range_coder.Decoder(coded.payload)
        if model.code_size:
            found = [symbols.read(decoder, _use(model), layout.frames[0])]
        else:
            pairs = list(zip(wanted, layout.frames, strict=True))
            found = [whole_numbers.read(decoder, *pair) for pair in reversed(pairs)][::-1]
        decoder.finish()
    except range_coder.DamagedError as error:
        raise ModelError(f"the coded latents are damaged ({error}); encode the recording again") from None
    except MemoryError:
        raise ModelError(
            f"no memory is left for the latents of {coded.seconds / 3600:.1f} hours; take a larger machine"
        ) from None
    return layout, found


def _use(model: Autoencoder) -> np.ndarray:
    return model.code_use().detach().cpu().numpy()


def _steps(index: np.ndarray) -> Tensor:
    """Steps from their indices: uint8 [channels] -> [channels, 1]."""
    return torch.tensor([[2.0 ** ((int(i) - MIDDLE) / PER_OCTAVE)] for i in index])


def _step_indices(layout: OnePass | Chunked, read: Read, step: float) -> list[np.ndarray]:
    """The index of each channel's step from the geometric mean of the posterior's deviation, finest level first."""
    totals: dict[int, Tensor] = {}
    counts: dict[int, int] = {}

    def look(level: int, mean: Tensor, log_variance: Tensor) -> Tensor:
        _check_finite(mean, log_variance)
        totals[level] = totals.get(level, 0) + log_variance.double().sum((0, 2)).cpu()
        counts[level] = counts.get(level, 0) + log_variance.shape[0] * log_variance.shape[2]
        return mean

    layout.encode(read, lambda piece, part: piece.encode_relative(part, look))
    found = []
    for level in sorted(totals):
        octaves = totals[level] / (2 * math.log(2) * counts[level]) + math.log2(step)
        index = (PER_OCTAVE * octaves).round() + MIDDLE
        found.append(index.clamp(0, 255).to(torch.uint8).numpy())
    return found


def _check_finite(*values: Tensor) -> None:
    if not all(bool(value.isfinite().all()) for value in values):
        raise ModelError("the latents are not finite: the model has diverged; take an earlier checkpoint")


def _quantiser(steps: Sequence[Tensor]) -> Choice:
    """Rounds the posterior's mean to whole steps."""

    def choose(level: int, mean: Tensor, log_variance: Tensor) -> Tensor:
        _check_finite(mean)
        own = steps[level].to(mean.device)
        return (mean / own).round().clamp(-whole_numbers.LARGEST, whole_numbers.LARGEST) * own

    return choose


def _whole(values: Tensor, steps: Tensor) -> np.ndarray:
    """Quantised values as whole numbers of steps: int64 [channels, frames]."""
    return (values / steps).round().long().numpy()
