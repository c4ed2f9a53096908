"""The best linear code with a given number of values a second: a bound for what training has to add.

Frames of the modified discrete cosine transform are projected on the eigenvectors of their second moments with the
largest eigenvalues (Karhunen-Loève transform). Of all linear maps of such frames to that many values, this one has
the least squared error on the chunks that it was fitted to. The values are real numbers, which no channel carries at a
finite rate, so this code has no bit rate. Of stereo, a frame is that of mid followed by that of side.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d, pad

from audiovae.layers.representation import mid_side
from audiovae.layers.transforms import lapped_cosines
from shards import Split
from train.evaluation.measuring.heldout import read_audio, spread

# Samples from one frame to the next. From 210 to 2,048 the SI-SDR changes by less than 0.5 dB at 22.05 kHz.
HOP = 512
# Chunks that the transform is fitted to, and the number that is read at a time.
FIT_CHUNKS, FIT_AT_ONCE = 512, 64


def fit(split: Split, values_per_second: float) -> Tensor:
    """The basis for chunks spread evenly over a split: float32 [values a frame, A * hop]; see `principal`.

    Raises:
        DataError: if a chunk is damaged.
    """
    hop = max(2, min(HOP, split.samples // 3))
    chunks = spread(len(split), FIT_CHUNKS)
    width = split.channels * hop
    moments = torch.zeros(width, width)
    for first in range(0, len(chunks), FIT_AT_ONCE):
        moments += second_moments(read_audio(split, chunks[first : first + FIT_AT_ONCE], moments.device), hop)
    return principal(moments, values_per_second / (split.rate * split.channels))


def second_moments(audio: Tensor, hop: int) -> Tensor:
    """The sum of the outer products of all whole frames of audio [n, A, T]: [A * hop, A * hop]."""
    channels = audio.shape[1]
    kernel = lapped_cosines(hop).unsqueeze(1).repeat(channels, 1, 1)
    values = conv1d(mid_side(audio), kernel, stride=hop, groups=channels).transpose(1, 2).reshape(-1, channels * hop)
    return values.T @ values


def principal(moments: Tensor, share: float) -> Tensor:
    """The eigenvectors with the largest eigenvalues of moments [width, width], orthonormal rows: [count, width].

    `count` is the nearest whole number to `share` of `width`, at least one.
    """
    count = min(len(moments), max(1, round(share * len(moments))))
    return torch.linalg.eigh(moments.double()).eigenvectors[:, -count:].T.float()


def projected(audio: np.ndarray, basis: Tensor) -> np.ndarray:
    """Audio, [T] or [2, T], as decoded from its values on a basis [count, A * hop]: of the same shape, float32."""
    rows = np.atleast_2d(audio)
    channels, length = rows.shape
    hop = basis.shape[1] // channels
    kernel = basis.unflatten(1, (channels, hop)) @ lapped_cosines(hop)
    # One frame of silence at both ends, because a sample is whole in the overlap of two frames.
    signal = pad(mid_side(torch.from_numpy(rows).float().unsqueeze(0)), (hop, hop + -length % hop))
    decoded = mid_side(conv_transpose1d(conv1d(signal, kernel, stride=hop), kernel, stride=hop))
    return decoded[0, :, hop : hop + length].numpy().reshape(audio.shape)
