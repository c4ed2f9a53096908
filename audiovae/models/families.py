"""The families by name."""

import dataclasses
import typing
from typing import Any

from audiovae.layers.trunk import start_at_random
from audiovae.models.autoencoder import Autoencoder
from audiovae.models.hvae import HVAE, HVAEConfig
from audiovae.models.vae import VAE, VAEConfig
from audiovae.models.vqvae import VQVAE, VQVAEConfig

FAMILIES: dict[str, tuple[type[Autoencoder], type]] = {
    "vae": (VAE, VAEConfig),
    "hvae": (HVAE, HVAEConfig),
    "vqvae": (VQVAE, VQVAEConfig),
}


def from_dict(kind: type, values: dict[str, Any]) -> Any:
    """A dataclass, nested ones included, from plain values; unknown names raise TypeError."""
    types = typing.get_type_hints(kind)
    for name, value in values.items():
        if dataclasses.is_dataclass(types.get(name)):
            values = {**values, name: from_dict(types[name], value)}
    return kind(**values)


def build(family: str, config: Any, samples: int, rate: int) -> Autoencoder:
    """A model with fresh weights.

    Args:
        family: A key of FAMILIES.
        config: The family's config, or a dict of its fields.
        samples: Chunk length in samples.
        rate: Hz.

    Raises:
        ValueError: when the shape does not fit the chunk's length.
    """
    model, config_type = FAMILIES[family]
    if isinstance(config, dict):
        config = from_dict(config_type, config)
    built = model(config, samples, rate)
    if config.trunk.start == "random":
        start_at_random(built)
    return built
