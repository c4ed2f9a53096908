"""The families by name, and the function that builds a model of each."""

import reprlib
from typing import Any

from audiovae.layers.trunk import start_at_random, start_exactly
from audiovae.models.autoencoder import Autoencoder
from audiovae.models.hvae import HVAE, HVAEConfig
from audiovae.models.settings import from_dict
from audiovae.models.vae import VAE, VAEConfig
from audiovae.models.vqvae import VQVAE, VQVAEConfig

FAMILIES: dict[str, tuple[type[Autoencoder], type]] = {
    "vae": (VAE, VAEConfig),
    "hvae": (HVAE, HVAEConfig),
    "vqvae": (VQVAE, VQVAEConfig),
}


def build(family: str, config: Any, samples: int, rate: int, audio_channels: int = 1) -> Autoencoder:
    """Builds a model with freshly initialized weights.

    Args:
        family: A key of FAMILIES.
        config: The family's config, or a dict of its fields.
        samples: Chunk length in samples.
        rate: Sample rate in Hz.
        audio_channels: 1 for mono, 2 for stereo.

    Raises:
        ValueError: if the config does not fit the chunk length, there are other audio channels than 1 or 2, or a value
            of a dict is out of bounds.
        TypeError: if a value of a dict has another type.
    """
    model, config_type = FAMILIES[family]
    if isinstance(config, dict):
        config = from_dict(config_type, config)
    if type(audio_channels) is not int or audio_channels not in (1, 2):
        raise ValueError(f"audio_channels is {reprlib.repr(audio_channels)}: choose 1 or 2")
    built = model(config, samples, rate, audio_channels)
    if config.trunk.start == "random":
        start_at_random(built)
    if config.trunk.whiten:
        start_exactly(built, config.trunk.strides[0], config.trunk.causal)
    return built
