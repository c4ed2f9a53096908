"""How the processes of a run hold one model: whole in each (DDP), or in parts (ZeRO)."""

from audiovae import Autoencoder
from train.config import OptimConfig
from train.engine import Engine
from train.parallel.ddp import DDP
from train.parallel.settings import ZeROSettings
from train.parallel.strategy import Strategy

__all__ = ["Strategy", "make_strategy"]


def make_strategy(model: Autoencoder, engine: Engine, config: OptimConfig) -> Strategy:
    """The strategy that the launcher was asked for."""
    settings = ZeROSettings.of_launch(engine.launch)
    if settings is None:
        return DDP(model, engine, config)
    from train.parallel.zero import ZeRO  # takes seconds, and is an extra

    return ZeRO(model, engine, config, settings)
