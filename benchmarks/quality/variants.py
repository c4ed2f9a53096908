"""Trains a model with a change that no setting makes.

Usage: `python -m benchmarks.quality.variants ALTERATION FAMILY FLAGS...`

The training command itself is not changed: only the function that builds its model is.
"""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from unittest.mock import patch

from torch import Tensor

import audiovae
from audiovae import Autoencoder

Make = Callable[[], Autoencoder]


def louder(make: Make, gain: float) -> Autoencoder:
    """As if all recordings were `gain` times as loud; what the model renders is scaled back."""
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
    """The same trunk with vector-quantize-pytorch's quantizer."""
    from benchmarks.quality.rival_quantizer import with_rival_quantizer

    return with_rival_quantizer(make(), kind)  # type: ignore[arg-type]


def multiband(make: Make, bands: int) -> Autoencoder:
    """A fixed bank of filters before the trunk, whose strides are those that are left after it."""
    from benchmarks.quality.multiband import Multiband

    with patch("audiovae.models.autoencoder.make_representation", lambda _, samples, __: Multiband(samples, bands)):
        return make()


ALTERATIONS: dict[str, Callable[[Make], Autoencoder]] = {
    "rival-default": partial(rival, kind="default"),
    "rival-tuned": partial(rival, kind="tuned"),
    "multiband-14": partial(multiband, bands=14),
    **{f"gain-{gain:g}": partial(louder, gain=gain) for gain in (0.1, 10.0)},
}


def main() -> None:
    """Hands over to the training command."""
    alter, sys.argv[1:] = ALTERATIONS[sys.argv[1]], sys.argv[2:]
    build = audiovae.build

    def altered(*arguments: Any) -> Autoencoder:
        return alter(partial(build, *arguments))

    audiovae.build = audiovae.saved.model_folder.build = altered  # type: ignore[attr-defined]
    from train.__main__ import main as train

    train()


if __name__ == "__main__":
    main()
