"""Processes recordings of any length as overlapping, cross-faded chunks.

A recording is [T] for a mono model, and left and right [2, T] for a stereo one.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from audiovae.errors import ModelError
from audiovae.layers.noise import Noise
from audiovae.models.autoencoder import Autoencoder
from shards.audio.levels import block_peaks, gain, robust_peak

# Chunks per batch.
BATCH = 16
# Factors to the level of training that files of recordings hold.
MIN_GAIN, MOST_GAIN = 1e-6, 1e6


def fade_of(size: int, overlap: float) -> int:
    """Samples over which chunks of `size` cross-fade, for an overlap in [0, 0.5]."""
    return int(size * overlap)


def count_chunks(length: int, size: int, fade: int) -> int:
    """The number of chunks that cover `length` samples, at least one."""
    return max(1, math.ceil((length - fade) / (size - fade)))


def split_chunks(audio: Tensor, size: int, fade: int) -> Tensor:
    """[T] -> [n, 1, size], or [2, T] -> [n, 2, size].

    Neighbours share `fade` samples; the end is padded with silence.
    """
    hop, length = size - fade, audio.shape[-1]
    count = count_chunks(length, size, fade)
    padded = torch.nn.functional.pad(audio, (0, (count - 1) * hop + size - length))
    chunks = padded.unfold(-1, size, hop)
    return chunks.unsqueeze(1) if audio.ndim == 1 else chunks.transpose(0, 1)


def raised_cosine(count: int) -> Tensor:
    """Weights that rise from above 0 to below 1, [count]; with those of a fall they add up to 1."""
    return torch.sin(torch.linspace(0, math.pi / 2, count + 2)[1:-1]).square()


def fade_window(size: int, fade: int) -> Tensor:
    """The weight of a chunk's samples where chunks share `fade` samples: [size]."""
    ramp = raised_cosine(fade)
    return torch.cat([ramp, torch.ones(size - 2 * fade), ramp.flip(0)])


def join_chunks(chunks: Tensor, fade: int) -> Tensor:
    """The inverse of `split_chunks` but for the padding: cross-faded with raised cosines that add up to one.

    [n, A, size] -> [(n - 1) * (size - fade) + size], of stereo [2, ...].
    """
    count, _, size = chunks.shape
    (whole,) = joined_chunks([chunks], size, fade, (count - 1) * (size - fade) + size)
    return whole


def joined_chunks(batches: Iterable[Tensor], size: int, fade: int, length: int) -> Iterator[Tensor]:
    """`join_chunks` of chunks that come in batches: what two batches share waits for the second one.

    Args:
        batches: [n, A, size] on the CPU, one after the other, of all the chunks of a recording.
        size, fade: Samples of a chunk, and those that neighbours share.
        length: Samples of the recording.

    Returns:
        Its pieces one after the other, [n] or [2, n].
    """
    hop, window, begun, waiting = size - fade, fade_window(size, fade), 0, torch.zeros(0, 0)
    count = count_chunks(length, size, fade)
    for batch in batches:
        chunks, channels, _ = batch.shape
        sums = torch.zeros(channels + 1, (chunks - 1) * hop + size)  # weighted samples, and weights
        if begun:
            sums[:, :fade] = waiting
        for place, chunk in zip(range(0, chunks * hop, hop), batch, strict=True):
            sums[:channels, place : place + size] += window * chunk
            sums[channels, place : place + size] += window
        ready = sums.shape[1] - (fade if begun + chunks < count else 0)
        waiting = sums[:, ready:]
        # Dividing by the total weight undoes the fades at the start of the first and the end of the last chunk.
        yield (sums[:channels, :ready] / sums[channels, :ready])[:, : length - begun * hop].squeeze(0)
        begun += chunks


def chunk_starts(first: int, count: int, size: int, fade: int) -> range:
    """First samples of `count` chunks of a recording from number `first` on."""
    hop = size - fade
    return range(first * hop, (first + count) * hop, hop)


def gain_of(audio: Tensor, level: str) -> float:
    """The factor that brings a recording to the level of training, one of `shards.audio.levels.LEVELS`."""
    peaks = block_peaks(audio.detach().cpu().float().numpy().T)
    return gain(level, float(peaks.max()), audio.double().square().mean().sqrt().item(), robust_peak(peaks))


def check_gain(gain: float) -> None:
    """Raises ModelError for a factor from a recording to the level of training that files cannot hold."""
    if not MIN_GAIN <= gain <= MOST_GAIN:
        raise ModelError(
            f"the recording is far from full scale: it would be scaled by {gain:.3g}, and files hold {MIN_GAIN:g} to "
            f"{MOST_GAIN:g}; scale it to peaks of about 1"
        )


def check_overlap(overlap: float) -> None:
    """Raises ModelError unless the overlap is in [0, 0.5]."""
    if not 0 <= overlap <= 0.5:
        raise ModelError(f"overlap is {overlap}: choose 0 to 0.5")


def check_audio(model: Autoencoder, audio: Tensor | np.ndarray, overlap: float) -> Tensor:
    """Returns a recording as a tensor; raises ModelError for one that the model cannot take.

    It is [T] finite floats, of stereo [2, T], and the overlap is in [0, 0.5].
    """
    stereo = model.audio_channels == 2
    wanted = "[2, T]" if stereo else "[T]"
    check_overlap(overlap)
    if isinstance(audio, np.ndarray) and audio.dtype.kind == "f":
        audio = torch.from_numpy(np.ascontiguousarray(audio))
    if not isinstance(audio, Tensor | np.ndarray):
        raise ModelError(f"audio is a {type(audio).__name__}: expected a tensor or an array of {wanted} floats")
    fits = list(audio.shape[:-1]) == ([2] if stereo else []) and audio.ndim and audio.shape[-1]
    if isinstance(audio, np.ndarray) or not fits or not audio.is_floating_point():
        raise ModelError(f"audio of shape {list(audio.shape)}, {audio.dtype}: expected {wanted} floats, T at least 1")
    if not audio.isfinite().all():
        raise ModelError("audio holds values that are not finite")
    return audio


@torch.no_grad()
def interpolate_recordings(
    model: Autoencoder,
    first: Tensor | np.ndarray,
    second: Tensor | np.ndarray,
    weights: Sequence[float],
    overlap: float = 0.25,
) -> list[Tensor]:
    """Interpolates between two recordings in latent space.

    Args:
        model: A model in evaluation mode.
        first, second: [T], of stereo [2, T], floats in [-1, 1] at the model's rate. The longer one is
            cut.
        weights: Shares of the second recording, in [0, 1].
        overlap: As in `audiovae.reconstruct_recording`.

    Returns:
        [T] or [2, T] float32 for each weight, at a level between those of the recordings.

    Raises:
        ModelError: if the audio or the overlap is invalid.
    """
    first, second = check_audio(model, first, overlap), check_audio(model, second, overlap)
    device = next(model.parameters()).device
    length = min(first.shape[-1], second.shape[-1])
    fade = fade_of(model.samples, overlap)
    both = first[..., :length], second[..., :length]
    gains = [gain_of(audio, model.level) for audio in both]
    chunks = [split_chunks(audio.float() * gain, model.samples, fade) for audio, gain in zip(both, gains, strict=True)]
    versions: list[list[Tensor]] = [[] for _ in weights]
    for number, parts in enumerate(zip(*(each.split(BATCH) for each in chunks), strict=True)):
        ends = [model.encode(part.to(device)) for part in parts]
        with model.decoding_at(chunk_starts(number * BATCH, len(parts[0]), model.samples, fade)):
            for weight, version in zip(weights, versions, strict=True):
                version.append(model.decode(model.blend(ends[0], ends[1], weight)).float().cpu())
    return [
        join_chunks(torch.cat(version), fade)[..., :length] / (gains[0] ** (1 - weight) * gains[1] ** weight)
        for weight, version in zip(weights, versions, strict=True)
    ]


@torch.no_grad()
def sample_chunks(model: Autoencoder, count: int, temperature: float = 1.0, seed: int = 0) -> list[Tensor]:
    """Samples chunks from the prior, [samples] or [2, samples] float32 each, the same for the same seed and count.

    Args:
        model: A model in evaluation mode.
        count: Number of chunks, at least 1.
        temperature: Factor on the standard deviation of the prior, 0 to 10; 0 gives its mode.
        seed: Seed of the random numbers.

    Raises:
        ModelError: if the count or the temperature is out of range.
    """
    if count < 1:
        raise ModelError(f"count is {count}: choose 1 or more")
    chunks: list[Tensor] = []
    for rows in torch.arange(count, device=next(model.parameters()).device).split(BATCH):
        with model.decoding_at([int(row) * model.samples for row in rows]):
            found = model.sample(len(rows), temperature, Noise(seed, 0, rows, count)).float().cpu()
            chunks += [chunk.squeeze(0) for chunk in found]
    return chunks
