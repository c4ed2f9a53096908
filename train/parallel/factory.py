"""The strategy that a launch asks for."""

from audiovae import Autoencoder
from train.config import OptimConfig
from train.parallel.ddp import DDP
from train.parallel.engine import Engine
from train.parallel.launch_settings import ZeROSettings
from train.parallel.strategy import Strategy


def make_strategy(model: Autoencoder, engine: Engine, config: OptimConfig) -> Strategy:
    """The strategy that the launcher was asked for."""
    settings = ZeROSettings.of_launch(engine.launch)
    if settings is None:
        return DDP(model, engine, config)
    from train.parallel.zero import ZeRO  # takes seconds, and is an extra

    return ZeRO(model, engine, config, settings)
