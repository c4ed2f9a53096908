"""The training loss: a weighted sum of named terms.

A term without a weight raises an error, and so does a weight without a term, unless it is 0.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from train.optim.schedules import Ramp


@dataclass
class VAEWeights:
    """Weights of a VAE's loss terms.

    Attributes:
        mse: Weight of the mean squared error.
        stft: Weight of the STFT distance; for mel models, of the mean absolute difference of log-mel.
        kl: Weight of the KL divergence in nats per input value, reached after the warm-up.
        likelihood: Weight of the negative log-likelihood in nats per input value. Set it with
            model.learned_variance, and leave it at 0 without.
        levels: Weight of the mean squared error of the normalised levels. Set it with model.levels.bands, and leave
            it at 0 without.
    """

    mse: float = 100.0
    stft: float = 0.1
    kl: float = 0.02
    likelihood: float = 0.0
    levels: float = 0.0

    def __post_init__(self) -> None:
        _check(self)


@dataclass
class HVAEWeights:
    """Weights of an HVAE's loss terms.

    Attributes:
        mse: Weight of the mean squared error.
        stft: Weight of the STFT distance; for mel models, of the mean absolute difference of log-mel.
        kl: Weights of the levels' KL divergences in nats per input value, reached after the warm-up; from the finest
            level to the coarsest.
        levels: Weight of the mean squared error of the normalised levels of the upper bands. Set it with
            model.levels.bands, and leave it at 0 without.
    """

    mse: float = 100.0
    stft: float = 0.1
    kl: list[float] = field(default_factory=lambda: [0.02, 0.02, 0.02, 0.02])
    levels: float = 0.0

    def __post_init__(self) -> None:
        _check(self)


@dataclass
class VQVAEWeights:
    """Weights of a VQ-VAE's loss terms.

    Attributes:
        mse: Weight of the mean squared error.
        stft: Weight of the STFT distance; for mel models, of the mean absolute difference of log-mel.
        commitment: Weight beta_0 of the distance between latents and their codes (the commitment loss).
        anchor: Weight of log(S / S_start)^2, which keeps the variance S of the latents at the value it had when the
            codebooks started; no effect unless the commitment is adaptive.
        diversity: Weight of the term that evens out how often codes are used.
    """

    mse: float = 100.0
    stft: float = 0.1
    commitment: float = 0.1
    anchor: float = 0.3
    diversity: float = 0.001

    def __post_init__(self) -> None:
        _check(self)


@dataclass
class PriorWeights:
    """Weights of a prior's loss terms.

    Attributes:
        prior: Weight of the loss: for codes the negative log-likelihood in nats, for real latents the squared error of
            the velocity. With AdamW, scaling it changes nothing but the effect of `optim.clip`.
    """

    prior: float = 1.0

    def __post_init__(self) -> None:
        _check(self)


def _check(weights: object) -> None:
    """Raises ValueError if a weight is negative or not finite, or if all are 0."""
    # Not in a base class: jsonargparse then takes each of them for one of several that may be chosen.
    for name, weight in named(weights).items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"weights.{name} is {weight}: it must be finite, and 0 or above")
    if not any(named(weights).values()):
        raise ValueError("all weights are 0: nothing would be trained")


def named(weights: object) -> dict[str, float]:
    """Weights by term; a list under `kl` becomes kl_0, kl_1, ..."""
    flat: dict[str, float] = {}
    for name, value in asdict(weights).items():  # type: ignore[call-overload]
        if isinstance(value, list):
            flat |= {f"{name}_{i}": entry for i, entry in enumerate(value)}
        else:
            flat[name] = value
    return flat


class Objective:
    """The weighted sum of a model's loss terms; the weights of KL terms rise along a ramp (beta warm-up).

    Args:
        weights: A dataclass of weights.
        warmup: The ramp of the KL weights.
        terms: Names of the model's loss terms.

    Raises:
        ValueError: when terms and weights do not match.
    """

    def __init__(self, weights: object, warmup: Ramp, terms: set[str]) -> None:
        self.weights = {name: weight for name, weight in named(weights).items() if weight or name in terms}
        self.warmup = warmup
        if missing := terms - self.weights.keys():
            raise ValueError(f"no weight for the loss term '{min(missing)}': set weights.{min(missing)}")
        if unknown := self.weights.keys() - terms:
            raise ValueError(
                f"weights.{min(unknown)} belongs to no loss term of this model, which has {', '.join(sorted(terms))}: "
                f"set weights.{min(unknown)} to 0"
            )

    def weights_at(self, step: int) -> dict[str, float]:
        """The weight of each term at a step."""
        beta = self.warmup.at(step)
        return {name: w * (beta if name.startswith("kl") else 1.0) for name, w in self.weights.items()}

    def __call__(self, terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
        """The loss of each item: terms [B] each -> [B] float32."""
        if terms.keys() != weights.keys():
            raise ValueError(f"loss terms {sorted(terms)} do not match the weights {sorted(weights)}")
        return torch.stack([weights[name] * term.float() for name, term in terms.items()]).sum(0)
