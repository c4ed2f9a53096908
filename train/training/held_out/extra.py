"""What an evaluation measures beside the usual: scores of the discriminator, and measures that a run asks for."""

import importlib.util
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from shards import Split
from train.adversarial.discriminator import Discriminator
from train.adversarial.losses import feature_distance, mean_score
from train.config import RunConfig
from train.errors import TrainError
from train.evaluation.measuring.heldout import Extra
from train.evaluation.yardsticks.perceptual import SHORTEST_S, zimtohrli_of
from train.optim.ranking import ON_REQUEST

SCORES = ("real_score", "fake_score", "features")
# Chunks that the discriminator judges at once: its features take far more memory than the chunks.
JUDGED = 8


def check_measures(config: RunConfig, split: Split | None) -> None:
    """Raises TrainError if the measures that a run names cannot be measured; `split` has its held-out chunks."""
    if split is None:
        if config.until:
            raise TrainError(
                "until needs held-out recordings, and these shards have none: leave it out, or build the shards "
                "with --valid"
            )
        return
    if "zimtohrli" not in requested(config):
        return
    if importlib.util.find_spec("zimtohrli") is None:
        raise TrainError("zimtohrli is not installed: run: pip install zimtohrli, or choose another measure")
    if split.samples < SHORTEST_S["zimtohrli"] * split.rate:
        raise TrainError(
            f"zimtohrli needs chunks of {SHORTEST_S['zimtohrli']} s, and these have {split.samples / split.rate:.2g} s"
            ": choose another measure"
        )


def requested(config: RunConfig) -> set[str]:
    """The measures of ON_REQUEST that the run's settings name."""
    named = {config.checkpoint.best_by, *([config.patience.measure] if config.patience else [])}
    return named & {*ON_REQUEST}


def extra_of(config: RunConfig, rate: int, discriminator: Discriminator | None) -> Extra:
    """What an evaluation of this run measures beside the usual.

    Args:
        config: The run's settings.
        rate: Hz.
        discriminator: The networks that judge; None outside of the adversarial phase.
    """
    names, parts = list[str](), list[Callable[[Tensor, Tensor], dict[str, Tensor]]]()
    asked = requested(config)
    if discriminator is not None:
        names += SCORES
        parts.append(lambda audio, output: judged(discriminator, audio, output))
    if "zimtohrli" in asked:
        names.append("zimtohrli")
        parts.append(lambda audio, output: {"zimtohrli": heard(audio, output, rate)})

    def values(audio: Tensor, output: Tensor) -> dict[str, Tensor]:
        return {name: value for part in parts for name, value in part(audio, output).items()}

    return Extra(tuple(names), values, "frechet" in asked)


@torch.no_grad()
def judged(discriminator: Discriminator, audio: Tensor, output: Tensor) -> dict[str, Tensor]:
    """How the discriminator tells recordings from reconstructions, in float32; an item's values depend on it alone.

    Args:
        discriminator: The networks.
        audio, output: [B, A, T].

    Returns:
        `real_score` and `fake_score`, the mean scores of recording and reconstruction, and `features`, the distance
        of their features: [B] each.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    with torch.autocast(audio.device.type, enabled=False):
        for real, fake in zip(audio.float().split(JUDGED), output.float().split(JUDGED), strict=True):
            of_real, of_fake = discriminator(real), discriminator(fake)
            found["real_score"].append(mean_score(of_real.scores))
            found["fake_score"].append(mean_score(of_fake.scores))
            found["features"].append(feature_distance(of_real.features, of_fake.features))
    return {name: torch.cat(values) for name, values in found.items()}


def heard(audio: Tensor, output: Tensor, rate: int) -> Tensor:
    """Zimtohrli's mean opinion scores of [B, A, T] audio, of stereo as `zimtohrli_of` has them: [B].

    NaN where a channel of an output is not finite, or silent while that of the recording is not.
    """
    pairs: Iterable[tuple[np.ndarray, np.ndarray]] = zip(
        *(value.float().cpu().numpy() for value in (audio, output)), strict=True
    )
    values = [zimtohrli_of(*pair, rate) if np.isfinite(pair[1]).all() else np.nan for pair in pairs]
    return torch.tensor(values, device=audio.device)
