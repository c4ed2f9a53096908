"""Trains a model with a change for which there is no setting.

Usage: `python -m benchmarks.variants ALTERATION FAMILY FLAGS...`

This replaces the classes of the families, and then runs the training command.
"""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor, nn

from audiovae import FAMILIES, Autoencoder
from audiovae.layers.trunk import start_at_random

Make = Callable[[], Autoencoder]


def louder(make: Make, gain: float) -> Autoencoder:
    """Scales all recordings by `gain`, and rendered audio by 1 / gain."""
    model = make()
    represent, render, calibrate = model.represent, model.render, model.calibrate

    def scaled(audio: Tensor) -> Tensor:
        return represent(gain * audio)

    def scaled_back(representation: Tensor) -> Tensor:
        return render(representation) / gain

    def from_scaled(batches: Iterable[Tensor]) -> None:
        calibrate(gain * audio for audio in batches)

    model.represent, model.render, model.calibrate = scaled, scaled_back, from_scaled  # type: ignore[method-assign]
    return model


def rival(make: Make, kind: str) -> Autoencoder:
    """Uses a quantizer of vector-quantize-pytorch in the same trunk."""
    from benchmarks.variants.rival_quantizer import with_rival_quantizer

    model = make()
    with torch.device("cpu"):  # also where only shapes are wanted, as some buffers are not in the state dict
        return with_rival_quantizer(model, kind)  # type: ignore[arg-type]


def multiband(make: Make, bands: int) -> Autoencoder:
    """Puts a fixed filter bank before the trunk, whose strides divide the frames of the filter bank."""
    from benchmarks.variants.multiband import Multiband

    def bank(_config: object, samples: int, *_: object) -> Multiband:
        with torch.device("cpu"):  # also where only shapes are wanted, as the filters are not in the state dict
            return Multiband(samples, bands)

    with patch("audiovae.models.autoencoder.make_representation", bank):
        return make()


def trunk(make: Make, kind: str) -> Autoencoder:
    """Uses the trunk of another codec in a VAE."""
    from benchmarks.variants.trunks import with_trunk

    return with_trunk(make(), kind)  # type: ignore[arg-type]


def random_trunk(make: Make) -> Autoencoder:
    """Gives the convolutions of our trunk PyTorch's default initialization; other layers begin as usual."""
    model = make()
    assert isinstance(model.encoder, nn.Module)
    assert isinstance(model.decoder, nn.Sequential)
    start_at_random(model.encoder.get_submodule("tower"))
    start_at_random(model.decoder[1])
    return model


def changed_loss(make: Make, kind: str) -> Autoencoder:
    """Uses another distance in place of the STFT distance of training."""
    from benchmarks.variants.losses import LOSSES

    model = make()
    distances = model.distances

    def changed(recon: Tensor, target: Tensor) -> dict[str, Tensor]:
        return distances(recon, target) | {"stft": LOSSES[kind](recon, target, model.rate)}

    model.distances = changed  # type: ignore[method-assign]
    return model


def changed_layers(make: Make, kind: str) -> Autoencoder:
    """Uses other layers in the trunk of a VAE."""
    from benchmarks.variants import layers

    return {"snake": layers.with_snake, "attention": layers.with_attention}[kind](make())  # type: ignore[arg-type]


ALTERATIONS: dict[str, Callable[[Make], Autoencoder]] = {
    "rival-default": partial(rival, kind="default"),
    "rival-tuned": partial(rival, kind="tuned"),
    "multiband-14": partial(multiband, bands=14),
    "trunk-random": random_trunk,
    **{f"trunk-{kind}": partial(trunk, kind=kind) for kind in ("dac", "seanet", "oobleck", "banded")},
    **{f"change-{kind}": partial(changed_loss, kind=kind) for kind in ("windows", "mel", "weighted", "phase")},
    **{f"change-{kind}": partial(changed_layers, kind=kind) for kind in ("snake", "attention")},
    **{f"gain-{gain:g}": partial(louder, gain=gain) for gain in (0.1, 10.0)},
}


def alter(name: str) -> None:
    """Makes every model of this process, also those that are loaded, one with the alteration."""
    alteration = ALTERATIONS[name]

    def altered(family: type[Autoencoder]) -> Callable[..., Autoencoder]:
        return lambda *arguments: alteration(partial(family, *arguments))

    for family, (model, config) in FAMILIES.items():
        FAMILIES[family] = altered(model), config  # type: ignore[assignment]


def main() -> None:
    """Alters all models and runs the training command with the other arguments."""
    alter(sys.argv[1])
    del sys.argv[1]
    from train.__main__ import main as train

    train()


if __name__ == "__main__":
    main()
