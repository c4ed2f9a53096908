import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiovae.quantizing.straight_through import GRADIENTS, LARGEST_SCALE, rotated


def by_definition(z: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """The matrix that takes z to e: turn about the shortest way, rescale; [D, D]."""
    before, after = z / z.norm(), e / e.norm()
    middle = (before + after) / (before + after).norm()
    turn = torch.eye(len(z)) - 2 * torch.outer(middle, middle) + 2 * torch.outer(after, before)
    return e.norm() / z.norm() * turn


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.integers(0, 10_000))
def test_the_gradient_is_that_of_the_rotation(dimension, seed):
    generator = torch.Generator().manual_seed(seed)
    z, e, slope = (torch.randn(dimension, generator=generator) for _ in range(3))
    e = e * min(1.0, 5 * z.norm().item() / e.norm().item())
    e = e if z @ e > -0.9 * z.norm() * e.norm() else -e
    matrix = by_definition(z, e)
    torch.testing.assert_close(matrix @ z, e, rtol=1e-4, atol=1e-5)
    leaf = z.clone().requires_grad_()
    out = rotated(leaf, e)
    assert torch.equal(out, e)
    out.backward(slope)
    torch.testing.assert_close(leaf.grad, matrix.T @ slope, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(GRADIENTS))
@pytest.mark.parametrize("z", [0.0, 1e-30, 1e-4, 1.0, 1e8])
@pytest.mark.parametrize("e", [0.0, -1.0, 1.0])
def test_values_are_exact_and_gradients_finite_and_bounded(name, z, e):
    leaf = torch.full((2, 3, 4), z, requires_grad=True)
    values = torch.full((2, 3, 4), e)
    out = GRADIENTS[name](leaf, values)
    assert torch.equal(out, values)
    out.sum().backward()
    assert leaf.grad.isfinite().all()
    assert leaf.grad.norm() <= 1.001 * LARGEST_SCALE * 24**0.5
