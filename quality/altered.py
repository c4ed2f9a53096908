"""`python -m quality.altered ALTERATION FAMILY FLAGS...`: trains a model with a change that no setting makes.

The training command itself is not changed: only the function that builds its model is.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

import audiovae
from audiovae import Autoencoder


def louder(model: Autoencoder, gain: float) -> Autoencoder:
    """The trunk sees the audio at `gain` times its level; what it renders is scaled back."""
    represent, render = model.represent, model.render

    def scaled(audio: Tensor) -> Tensor:
        return gain * represent(audio)

    def scaled_back(representation: Tensor) -> Tensor:
        return render(representation) / gain

    model.represent, model.render = scaled, scaled_back  # type: ignore[method-assign]
    return model


def rival(model: Autoencoder, kind: str) -> Autoencoder:
    """The same trunk with vector-quantize-pytorch's quantizer."""
    from quality.rival_quantizer import with_rival_quantizer

    return with_rival_quantizer(model, kind)  # type: ignore[arg-type]


ALTERATIONS: dict[str, Callable[[Autoencoder], Autoencoder]] = {
    "rival-default": partial(rival, kind="default"),
    "rival-tuned": partial(rival, kind="tuned"),
    **{f"gain-{gain:g}": partial(louder, gain=gain) for gain in (0.1, 1.0, 10.0)},
}


def main() -> None:
    """Hands over to the training command."""
    alter, sys.argv[1:] = ALTERATIONS[sys.argv[1]], sys.argv[2:]
    build = audiovae.build

    def altered(*arguments: Any) -> Autoencoder:
        return alter(build(*arguments))

    audiovae.build = audiovae.weights.build = altered  # type: ignore[attr-defined]
    from train.__main__ import main as train

    train()


if __name__ == "__main__":
    main()
