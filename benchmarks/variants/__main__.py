"""Trains a model with a change for which there is no setting.

Usage: `python -m benchmarks.variants ALTERATION FAMILY FLAGS...`

This patches the function that builds the model, and then runs the training command.
"""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import audiovae
from audiovae import Autoencoder

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

    return with_rival_quantizer(make(), kind)  # type: ignore[arg-type]


def multiband(make: Make, bands: int) -> Autoencoder:
    """Puts a fixed filter bank before the trunk, whose strides divide the frames of the filter bank."""
    from benchmarks.variants.multiband import Multiband

    def on_cpu(samples: int) -> Multiband:
        with torch.device("cpu"):  # also where only shapes are wanted, as the filters are not in the state dict
            return Multiband(samples, bands)

    with patch("audiovae.models.autoencoder.make_representation", lambda _, samples, __: on_cpu(samples)):
        return make()


def trunk(make: Make, kind: str) -> Autoencoder:
    """Uses the trunk of another codec in a VAE."""
    from benchmarks.variants.trunks import with_trunk

    return with_trunk(make(), kind)  # type: ignore[arg-type]


ALTERATIONS: dict[str, Callable[[Make], Autoencoder]] = {
    "rival-default": partial(rival, kind="default"),
    "rival-tuned": partial(rival, kind="tuned"),
    "multiband-14": partial(multiband, bands=14),
    **{f"trunk-{kind}": partial(trunk, kind=kind) for kind in ("dac", "seanet", "oobleck", "banded")},
    **{f"gain-{gain:g}": partial(louder, gain=gain) for gain in (0.1, 10.0)},
}


def main() -> None:
    """Patches `audiovae.build` and runs the training command with the other arguments."""
    alter, sys.argv[1:] = ALTERATIONS[sys.argv[1]], sys.argv[2:]
    build = audiovae.build

    def altered(*arguments: Any) -> Autoencoder:
        return alter(partial(build, *arguments))

    audiovae.build = audiovae.saved.model_folder.build = altered  # type: ignore[attr-defined]
    audiovae.models.lengths.build = altered  # type: ignore[attr-defined]
    from train.__main__ import main as train

    train()


if __name__ == "__main__":
    main()
