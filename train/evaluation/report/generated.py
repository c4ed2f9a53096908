"""What a model makes without being asked for a reconstruction: sounds between two recordings, and from its prior."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiovae import Autoencoder, interpolate_recordings, sample_chunks
from shards import Split
from train.evaluation.measuring.recordings import joined

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TEMPERATURES = (1.0, 0.7)
DRAWS = 4  # from the prior, for each temperature
# Of the two recordings, to go from one to the other.
SECONDS = 4.0


@dataclass
class Clip:
    """A sound [T] float32: the name of its file, what it is in a word, and its label for those who do not see it."""

    file: str
    name: str
    label: str
    audio: np.ndarray


@dataclass
class Interpolation:
    """Sounds between two recordings: the paths of the two, and clips from the first to the second."""

    first: str
    second: str
    clips: list[Clip]


def interpolation(model: Autoencoder, split: Split, heard: dict[int, int]) -> Interpolation | None:
    """Between some seconds of the first two recordings; None where there are not two.

    Args:
        model: In evaluation mode.
        split: Holds the recordings.
        heard: By recording the sample to begin at.
    """
    if len(heard) < 2:
        return None
    two = list(heard.items())[:2]
    paths = [split.manifest.sources[source].path for source, _ in two]
    ends = [torch.from_numpy(joined(split, source, first, SECONDS)) for source, first in two]
    results = interpolate_recordings(model, ends[0], ends[1], WEIGHTS)
    clips = [Clip("interpolation-first", "first recording", f"First recording, file {paths[0]}", ends[0].numpy())]
    for weight, result in zip(WEIGHTS, results, strict=True):
        share = f"{100 * weight:.0f} %"
        label = f"Interpolation, {share} of the second recording, from {paths[0]} to {paths[1]}"
        clips.append(Clip(f"interpolation-{100 * weight:03.0f}", f"{share} of the second", label, host(result)))
    clips.append(
        Clip("interpolation-second", "second recording", f"Second recording, file {paths[1]}", ends[1].numpy())
    )
    return Interpolation(paths[0], paths[1], clips)


def prior_samples(model: Autoencoder) -> dict[float, list[Clip]]:
    """Draws from the model's prior, the same ones at each temperature."""
    result = {}
    for temperature in TEMPERATURES:
        drawn = sample_chunks(model, DRAWS, temperature)
        result[temperature] = [
            Clip(f"prior-{temperature}-{i}", f"sample {i}", f"Sample {i} at temperature {temperature}", host(audio))
            for i, audio in enumerate(drawn, start=1)
        ]
    return result


def host(audio: Tensor) -> np.ndarray:
    """[T] as float32 on the host."""
    return audio.float().cpu().numpy()
