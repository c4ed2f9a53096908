"""Chooses between DDP and ZeRO by the flags of the launcher."""

from audiovae.trainable import Trainable
from train.optim.settings import OptimConfig
from train.parallel.ddp import DDP
from train.parallel.engine import Engine
from train.parallel.launch_settings import ZeROSettings
from train.parallel.strategy import Strategy


def make_strategy(model: Trainable, engine: Engine, config: OptimConfig) -> Strategy:
    """ZeRO if the launcher's flags ask for DeepSpeed, else DDP."""
    settings = ZeROSettings.of_launch(engine.launch)
    if settings is None:
        return DDP(model, engine, config)
    from train.parallel.zero import ZeRO  # its import takes seconds, and DeepSpeed is optional

    return ZeRO(model, engine, config, settings)
