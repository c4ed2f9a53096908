"""Chunk lengths that fit the strides of a model."""

import math
from typing import Any

import torch

from audiovae.models.autoencoder import Autoencoder
from audiovae.models.families import build
from audiovae.models.settings import LONGEST_CHUNK


def length_step(config: Any) -> int:
    """Samples of which a chunk is a whole multiple, which strides and levels.hold divide and a mel does not pad.

    Args:
        config: The config of a family.
    """
    tower, mel = getattr(config, "tower", config.trunk), config.representation.kind == "mel"
    step = math.prod(tower.strides)
    if config.levels.bands and not hasattr(config, "tower"):  # the levels of an HVAE do not hold
        step *= config.levels.hold
    return math.lcm(step, config.representation.multiple) * config.representation.hop if mel else step


def nearest_lengths(config: Any, samples: int) -> list[int]:
    """The chunk lengths next to `samples` that a model can take: a shorter and a longer one, if they exist.

    Of a mel spectrogram, only lengths of whole frames are named: they need no padding.

    Args:
        config: The config of a family.
        samples: Chunk length in samples.
    """
    step = length_step(config)
    least = config.representation.n_fft // 2 + 1 if config.representation.kind == "mel" else 1
    shorter = (samples - 1) // step * step
    return [length for length in (shorter, samples // step * step + step) if least <= length <= LONGEST_CHUNK]


def stretched(model: Autoencoder, samples: int) -> Autoencoder | None:
    """The model for chunks of another length, with the same weights in memory; None if its weights fit one length only.

    Raises:
        ValueError: if the strides do not divide the length.
    """
    with torch.device("meta"):
        other = build(model.family, model.config, samples, model.rate, model.audio_channels)
    own = model.state_dict(keep_vars=True)
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    if shapes != {name: value.shape for name, value in own.items()}:
        return None
    other.load_state_dict(own, assign=True)
    other.level = model.level
    return other.train(model.training)
