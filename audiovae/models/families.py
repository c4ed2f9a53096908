"""The families by name, and the functions that build a model of each."""

from typing import Any

from audiovae.layers.trunk import start_at_random
from audiovae.models.autoencoder import Autoencoder
from audiovae.models.hvae import HVAE, HVAEConfig
from audiovae.models.settings import from_dict
from audiovae.models.vae import VAE, VAEConfig
from audiovae.models.vqvae import VQVAE, VQVAEConfig
from audiovae.priors.building import make_prior
from audiovae.priors.settings import PriorConfig
from audiovae.trainable import Trainable

FAMILIES: dict[str, tuple[type[Autoencoder], type]] = {
    "vae": (VAE, VAEConfig),
    "hvae": (HVAE, HVAEConfig),
    "vqvae": (VQVAE, VQVAEConfig),
}

PRIOR = "prior"
# All that `build_any` builds.
KINDS = (*FAMILIES, PRIOR)


def build(family: str, config: Any, samples: int, rate: int) -> Autoencoder:
    """Builds a model with freshly initialized weights.

    Args:
        family: A key of FAMILIES.
        config: The family's config, or a dict of its fields.
        samples: Chunk length in samples.
        rate: Sample rate in Hz.

    Raises:
        ValueError: if the config does not fit the chunk length, or a value of a dict is out of bounds.
        TypeError: if a value of a dict has another type.
    """
    model, config_type = FAMILIES[family]
    if isinstance(config, dict):
        config = from_dict(config_type, config)
    built = model(config, samples, rate)
    if config.trunk.start == "random":
        start_at_random(built)
    return built


def build_any(family: str, config: Any, samples: int, rate: int) -> Trainable:
    """Builds an autoencoder or a prior with freshly initialized weights; `family` is one of KINDS, see `build`."""
    if family != PRIOR:
        return build(family, config, samples, rate)
    return make_prior(from_dict(PriorConfig, config) if isinstance(config, dict) else config, samples, rate)
