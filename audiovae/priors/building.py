"""Builds the prior that fits a kind of latents."""

from audiovae.priors.codes import CodePrior
from audiovae.priors.flow import FlowPrior
from audiovae.priors.prior import Prior
from audiovae.priors.settings import PriorConfig

KINDS: dict[str, type[Prior]] = {"real": FlowPrior, "codes": CodePrior}


def make_prior(config: PriorConfig, samples: int, rate: int) -> Prior:
    """Builds a prior with freshly initialized weights.

    Args:
        config: The settings.
        samples: Values in a record of its data set.
        rate: Values a second.

    Raises:
        ValueError: if the settings do not fit `samples`.
    """
    return KINDS[config.latents.kind](config, samples, rate)
