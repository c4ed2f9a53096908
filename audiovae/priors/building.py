"""Builds the prior that fits a kind of latents."""

from typing import Any

from audiovae.models.settings import from_dict
from audiovae.priors.codes import CodePrior
from audiovae.priors.flow import FlowPrior
from audiovae.priors.prior import Prior
from audiovae.priors.settings import PriorConfig

KINDS: dict[str, type[Prior]] = {"real": FlowPrior, "codes": CodePrior}


def make_prior(config: PriorConfig | dict[str, Any], samples: int, rate: int) -> Prior:
    """Builds a prior with freshly initialized weights.

    Args:
        config: The settings, or a dict of their fields.
        samples: Values in a record of its data set.
        rate: Values a second.

    Raises:
        ValueError: if the settings do not fit `samples`, or a value of a dict is out of bounds.
        TypeError: if a value of a dict has another type.
    """
    checked: PriorConfig = from_dict(PriorConfig, config) if isinstance(config, dict) else config
    return KINDS[checked.latents.kind](checked, samples, rate)
