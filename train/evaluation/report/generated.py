"""Audio that a model generates: interpolations between two recordings, and samples from its prior."""

from dataclasses import dataclass

import numpy as np
import torch

from audiovae import Autoencoder, interpolate_recordings, sample_chunks
from shards import Split
from train.evaluation.measuring.recordings import join_chunks
from train.evaluation.report.sounds import to_host

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TEMPERATURES = (1.0, 0.7)
DRAWS = 4  # samples from the prior at each temperature
# Length of the passages to interpolate between.
SECONDS = 4.0


@dataclass
class Clip:
    """Audio, [T] or [2, T] float32, with its file name, a short name, and a label for screen readers."""

    file: str
    name: str
    label: str
    audio: np.ndarray


@dataclass
class Interpolation:
    """An interpolation: the paths of the two recordings, and clips from the first to the second."""

    first: str
    second: str
    clips: list[Clip]


def interpolation(model: Autoencoder, split: Split, starts: dict[int, int]) -> Interpolation | None:
    """Interpolates between passages of the first two recordings; None with fewer than two.

    Args:
        model: A model in evaluation mode.
        split: The split with the recordings.
        starts: By recording, the first sample of its passage.
    """
    if len(starts) < 2:
        return None
    two = list(starts.items())[:2]
    paths = [split.manifest.sources[source].path for source, _ in two]
    ends = [torch.from_numpy(join_chunks(split, source, first, SECONDS)) for source, first in two]
    results = interpolate_recordings(model, ends[0], ends[1], WEIGHTS)
    clips = [Clip("interpolation-first", "first recording", f"First recording, file {paths[0]}", ends[0].numpy())]
    for weight, result in zip(WEIGHTS, results, strict=True):
        share = f"{100 * weight:.0f} %"
        label = f"Interpolation, {share} of the second recording, from {paths[0]} to {paths[1]}"
        clips.append(Clip(f"interpolation-{100 * weight:03.0f}", f"{share} of the second", label, to_host(result)))
    clips.append(
        Clip("interpolation-second", "second recording", f"Second recording, file {paths[1]}", ends[1].numpy())
    )
    return Interpolation(paths[0], paths[1], clips)


def prior_samples(model: Autoencoder) -> dict[float, list[Clip]]:
    """Samples from the model's prior by temperature, with the same random numbers at each."""
    result = {}
    for temperature in TEMPERATURES:
        drawn = sample_chunks(model, DRAWS, temperature)
        result[temperature] = [
            Clip(f"prior-{temperature}-{i}", f"sample {i}", f"Sample {i} at temperature {temperature}", to_host(audio))
            for i, audio in enumerate(drawn, start=1)
        ]
    return result
