"""Chunk lengths that fit the strides of a model."""

import math
from typing import Any

from audiovae.models.settings import LONGEST_CHUNK


def nearest_lengths(config: Any, samples: int) -> list[int]:
    """The chunk lengths next to `samples` that a model can take: a shorter and a longer one, if they exist.

    Of a mel spectrogram, only lengths of whole frames are named: they need no padding.

    Args:
        config: The config of a family.
        samples: Chunk length in samples.
    """
    tower, mel = getattr(config, "tower", config.trunk), config.representation.kind == "mel"
    step = math.prod(tower.strides)
    if mel:
        step = math.lcm(step, config.representation.multiple) * config.representation.hop
    least = config.representation.n_fft // 2 + 1 if mel else 1
    shorter = (samples - 1) // step * step
    return [length for length in (shorter, samples // step * step + step) if least <= length <= LONGEST_CHUNK]
