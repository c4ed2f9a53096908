"""Losses of the discriminator and of the model that it judges, each with one value for each item of a batch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

# Scores of a batch by several networks: [B, ...] each.
Scores = Sequence[Tensor]
# The mean size of a layer's features is at least this in the distance of features, so that silence stays finite.
FEATURE_FLOOR = 1e-3


def discriminator_loss(kind: str, real: Scores, fake: Scores) -> Tensor:
    """What the discriminator minimises: scores of recordings and of reconstructions -> [B].

    `hinge` is equation 16 of Lim and Ye 2017 ("Geometric GAN"), `least_squares` equation 9 of Mao et al. 2017
    ("LSGAN") with labels 0 and 1, `relativistic` equation 3 of Jolicoeur-Martineau 2019 for pairs: each item's
    reconstruction against its own recording, at each place. The result is a mean over places, then over networks.
    """
    if kind == "hinge":
        terms = [relu(1 - a) + relu(1 + b) for a, b in zip(real, fake, strict=True)]
    elif kind == "least_squares":
        terms = [(1 - a).square() + b.square() for a, b in zip(real, fake, strict=True)]
    else:
        terms = [softplus(b - a) for a, b in zip(real, fake, strict=True)]
    return _mean(terms)


def adversarial_loss(kind: str, real: Scores, fake: Scores) -> Tensor:
    """What the model minimises: scores of recordings and of reconstructions -> [B]; the same sources.

    `hinge` stops at a score of 1, as in Defossez et al. 2022 ("EnCodec", equation 3).
    """
    if kind == "hinge":
        terms = [relu(1 - b) for b in fake]
    elif kind == "least_squares":
        terms = [(1 - b).square() for b in fake]
    else:
        terms = [softplus(a - b) for a, b in zip(real, fake, strict=True)]
    return _mean(terms)


def feature_distance(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of features, relative to the mean size of the recording's -> [B].

    As in Defossez et al. 2022 ("EnCodec", equation 4), but each item is divided by its own size, so that the value of
    an item does not depend on the others.

    Args:
        real, fake: By network and layer, [B, ...] each.
    """
    terms = []
    for layers in zip(real, fake, strict=True):
        for a, b in zip(*layers, strict=True):
            a, b = a.float().flatten(1), b.float().flatten(1)
            terms.append((a - b).abs().mean(1) / a.abs().mean(1).clamp_min(FEATURE_FLOOR))
    return torch.stack(terms).mean(0)


def mean_score(scores: Scores) -> Tensor:
    """The mean over places and networks: [B]."""
    return _mean(scores)


def _mean(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack([term.flatten(1).mean(1) for term in terms]).mean(0)
