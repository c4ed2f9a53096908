"""Gradient estimators for quantization: the straight-through estimator and the rotation trick."""

from typing import Any

import torch
from torch import Tensor

# A shorter vector counts as one without a direction.
SHORTEST = 1e-5
# Bound of the rescaling |code| / |vector|, which would be infinite for a vector of zero.
LARGEST_SCALE = 10.0


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, values)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        vectors, values = ctx.saved_tensors
        length = vectors.norm(dim=-1, keepdim=True)
        code_length = values.norm(dim=-1, keepdim=True)
        before = vectors / length.clamp_min(SHORTEST)
        after = values / code_length.clamp_min(SHORTEST)
        middle = before + after
        middle_length = middle.norm(dim=-1, keepdim=True)
        # Straight through for vectors without a direction and for opposite ones, which have no unique rotation.
        plain = (length < SHORTEST) | (code_length < SHORTEST) | (middle_length < 1e-3)
        middle = middle / middle_length.clamp_min(1e-3)
        # The transpose of R = 1 - 2 w w' + 2 q z', with unit vectors z, q and w between them.
        along_middle = (gradient * middle).sum(-1, keepdim=True)
        along_after = (gradient * after).sum(-1, keepdim=True)
        turned = gradient - 2 * along_middle * middle + 2 * along_after * before
        scale = (code_length / length.clamp_min(SHORTEST)).clamp_max(LARGEST_SCALE)
        return torch.where(plain, gradient, scale * turned), None


def straight_through(vectors: Tensor, values: Tensor) -> Tensor:
    """Returns `values` and passes their gradient to `vectors` unchanged (van den Oord et al. 2017); both [..., D]."""
    return _StraightThrough.apply(vectors, values)


def rotated(vectors: Tensor, values: Tensor) -> Tensor:
    """Returns `values` as rotated and rescaled `vectors`, with constant rotation and scale; both [..., D].

    Fifty et al. 2024, "Restructuring Vector Quantization with the Rotation Trick", section 4: the gradient at the
    vector has the same angle to the vector as the gradient at the code has to the code. Zero and opposite vectors use
    the straight-through estimator; the scale is at most LARGEST_SCALE.
    """
    return _Rotation.apply(vectors, values)


GRADIENTS = {"straight-through": straight_through, "rotation": rotated}
