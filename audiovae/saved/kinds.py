"""All kinds of models that folders hold: autoencoders of every family, and priors."""

import dataclasses
import reprlib
from typing import Any

from audiovae.models.families import FAMILIES, build
from audiovae.models.settings import from_dict
from audiovae.priors.building import make_prior
from audiovae.priors.latents import LATENTS, LatentsConfig
from audiovae.priors.settings import PriorConfig
from audiovae.trainable import Trainable

PRIOR = "prior"
KINDS = frozenset({*FAMILIES, PRIOR})


def build_any(family: str, config: Any, samples: int, rate: int, audio_channels: int = 1) -> Trainable:
    """Builds an autoencoder or a prior with freshly initialized weights; `family` is one of KINDS.

    Args, errors: as `audiovae.build`.
    """
    if family != PRIOR:
        return build(family, config, samples, rate, audio_channels)
    return make_prior(from_dict(PriorConfig, config) if isinstance(config, dict) else config, samples, rate)


def latents_of(settings: dict[str, Any]) -> LatentsConfig:
    """The description of latents in the settings of a manifest, which may be a stranger's.

    Raises:
        ValueError: if it is none, or a value is of the wrong type or out of bounds.
    """
    values = settings.get(LATENTS)
    if not isinstance(values, dict):
        raise ValueError(f"{LATENTS} is not an object")
    fields = dataclasses.fields(LatentsConfig)
    names = {field.name for field in fields}
    needed = {field.name for field in fields if field.default_factory is dataclasses.MISSING}
    if missing := sorted(needed - {*values}):
        raise ValueError(f"{LATENTS}: {missing[0]} is missing")
    if unknown := sorted({*values} - names):
        raise ValueError(f"{LATENTS}: unknown setting {reprlib.repr(unknown[0])}")
    return from_dict(LatentsConfig, values)
