"""All kinds of models that folders hold: autoencoders of every family, and priors."""

from typing import Any

from audiovae.models.families import FAMILIES, build
from audiovae.models.settings import from_dict
from audiovae.priors.building import make_prior
from audiovae.priors.settings import PriorConfig
from audiovae.trainable import Trainable

PRIOR = "prior"
KINDS = frozenset({*FAMILIES, PRIOR})


def build_any(family: str, config: Any, samples: int, rate: int) -> Trainable:
    """Builds an autoencoder or a prior with freshly initialized weights; `family` is one of KINDS.

    Args, errors: as `audiovae.build`.
    """
    if family != PRIOR:
        return build(family, config, samples, rate)
    return make_prior(from_dict(PriorConfig, config) if isinstance(config, dict) else config, samples, rate)
